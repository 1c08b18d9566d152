"""A disk that is full: one message, nothing half written, and what was there stays."""

import errno
import os
import subprocess
import sys

import pytest
import tensorflow as tf

from keras_perceiver._checks import InputError
from keras_perceiver._files import storage_problem
from keras_perceiver.data.reports import Problem, Report
from keras_perceiver.data.splits import write_splits
from keras_perceiver.export.shelf import new_version
from keras_perceiver.training import plots, write_history
from keras_perceiver.training.runs import Run

FULL = OSError(errno.ENOSPC, "No space left on device")
ROWS = [{"epoch": 1, "loss": 1.0, "accuracy": 0.5}]
WRITERS = {
    "history.csv": lambda folder: write_history(folder, ROWS),
    "curves.png": lambda folder: plots.plot_curves(ROWS, folder / "curves.png"),
    "confusion_matrix.png": lambda folder: plots.plot_confusion_matrix(
        [[1, 0], [0, 1]], ["a", "b"], 1.0, folder / "confusion_matrix.png"
    ),
    "splits.csv": lambda folder: write_splits(folder / "splits.csv", {"a.png": "train"}),
    "skipped.csv": lambda folder: Report((Problem("broken", "a.png", "why"),)).write(folder / "skipped.csv"),
    "metrics.json": lambda folder: Run(folder).write_json("metrics.json", {}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_finds_no_room_is_named_and_what_was_there_stays(tmp_path, monkeypatch, name):
    (tmp_path / name).write_text("precious")

    def full(*_):
        raise FULL

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        InputError, match=rf"{name}` must be writable. \(No space left on device\) What was there stays"
    ):
        WRITERS[name](tmp_path)
    monkeypatch.undo()
    assert (tmp_path / name).read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    WRITERS[name](tmp_path)
    assert (tmp_path / name).read_bytes() != b"precious"


def write_half(folder, error):
    (folder / "half").write_text("half")
    raise error


@pytest.mark.parametrize(
    "error",
    [FULL, tf.errors.ResourceExhaustedError(None, None, "/x/variables.data; No space left on device")],
    ids=["of Python", "of TensorFlow"],
)
def test_a_shelf_without_room_is_said_and_its_versions_stay(tmp_path, error):
    (tmp_path / "model" / "1").mkdir(parents=True)
    message = r"`shelf` must be writable.*\(No space left on device\)"
    with pytest.raises(InputError, match=message), new_version(tmp_path, "model") as (folder, _):
        write_half(folder, error)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["1"]


def test_other_errors_stay_what_they_are(tmp_path):
    assert storage_problem(BrokenPipeError(errno.EPIPE, "Broken pipe")) is None
    assert storage_problem(ValueError("OOM when allocating tensor")) is None
    with pytest.raises(ValueError, match="mine"), new_version(tmp_path, "model"):
        raise ValueError("mine")
    assert list((tmp_path / "model").iterdir()) == []


# In a process of its own, in which no file may have more than a megabyte: what TensorFlow and Keras then raise.
LIMITED = """
import resource, signal, sys
from pathlib import Path
import keras, numpy as np, tensorflow as tf
from keras_perceiver._checks import InputError
from keras_perceiver.export.shelf import new_version
from keras_perceiver.training import Run
folder = Path(sys.argv[1])
model = keras.Sequential([keras.Input((1000,)), keras.layers.Dense(1000)])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
module = tf.Module()
module.weight = tf.Variable(np.zeros(1_000_000, np.float32))
try:
    with new_version(folder, "shelf") as (version, _):
        tf.saved_model.save(module, version)
except InputError as error:
    print(error)
try:
    Run(folder).save_model(model)
except InputError as error:
    print(error)
"""


@pytest.mark.thorough
def test_what_tensorflow_and_keras_raise_is_understood(tmp_path):
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert ["(File too large)" in line for line in printed] == [True, True]
    assert "`shelf` must be writable" in printed[0]
    assert "model.keras` must be writable" in printed[1]
    assert [path.name for path in tmp_path.iterdir()] == ["shelf"]
    assert list((tmp_path / "shelf").iterdir()) == []
