"""Layers and models give the same numbers on every Keras backend that is installed, and read each other's files."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests import backends

BACKENDS = [
    "jax",
    pytest.param("torch", marks=pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="no torch")),
]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The folder of the records, and what TensorFlow found."""
    folder = tmp_path_factory.mktemp("backends")
    return folder, backends.record(folder)


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_backend_gives_the_same_numbers(recorded, backend):
    folder, expected = recorded
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, backends.__file__, folder], check=True, env=environment, timeout=250)
    found = dict(np.load(folder / f"{backend}.npz"))
    assert np.abs(found.pop("answers of tensorflow") - expected["answers"]).max() < 1e-5
    assert set(found) == set(expected)
    for name, value in found.items():
        assert np.isfinite(value).all(), name
        assert np.abs(value - expected[name]).max() < 1e-4 * max(1, np.abs(expected[name]).max()), name
    _, x, _ = backends.small_classifier()
    answers = keras.saving.load_model(folder / f"{backend}.keras").predict(x, verbose=0)
    assert np.abs(answers - expected["answers"]).max() < 1e-5


def test_the_numbers_are_worth_comparing(recorded):
    _, found = recorded
    losses = found["fit/losses"]
    assert losses[1] < losses[0]
    cancelled = {name for name, value in found.items() if not np.abs(value).max() > 1e-6}
    assert {name.rpartition("/")[2] for name in cancelled} <= {"bias"}, "what is zero proves nothing"
