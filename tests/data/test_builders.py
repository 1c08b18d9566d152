"""Our builders for tensorflow-datasets: its own test case, and the way to a model."""

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from fuzz_points import SOLID, TETRAHEDRON, as_off
from sounds import encoded, sine, wav_bytes
from tiny_tfds import no_cloud

from keras_perceiver._checks import InputError
from keras_perceiver.data import load_source
from keras_perceiver.data.builders import AudioSet, ModelNet
from keras_perceiver.data.builders.audio_set import read_segments

SEGMENTS = """# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=4, num_segs=4, num_unique_labels=3, num_positive_labels=6
# YTID, start_seconds, end_seconds, positive_labels
"""


def write_meshes(folder, numbers):
    """ModelNet10 in small: `numbers` are those of the meshes of each class, in `train` and `test`."""
    for name, stretch in (("bathtub", 1), ("toilet", 3)):
        for split, some in zip(("train", "test"), numbers, strict=True):
            path = folder / "ModelNet10" / name / split
            path.mkdir(parents=True)
            for number in some:
                solid = as_off(SOLID * [1, 1, stretch + 0.1 * number], TETRAHEDRON)
                # Some files of the set have the counts on the line of the name.
                content = solid.replace(b"OFF\n", b"OFF") if number % 2 else solid
                (path / f"{name}_{number:04}.off").write_bytes(content)


def write_clips(folder, train, test):
    """AudioSet in small; `train` and `test` are `{clip: labels}`."""
    (folder / "clips").mkdir(parents=True)
    (folder / "class_labels_indices.csv").write_text(
        'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/t/dd00088,"Gush"\n2,/m/04rlf,"Music, loud"\n'
    )
    for table, clips in (("balanced_train_segments.csv", train), ("eval_segments.csv", test)):
        rows = [f'{clip}, 30.000, 40.000, "{",".join(labels)}"' for clip, labels in clips.items()]
        (folder / table).write_text(SEGMENTS + "\n".join(rows) + "\n")
    for number, clip in enumerate([*train, *test]):
        tone = sine(300 + 100 * number, 0.1, 48_000)
        content = encoded(tone, 48_000, "flac") if number % 2 else wav_bytes(np.stack([tone, 0 * tone], 1), 48_000)
        (folder / "clips" / f"{clip}{'.flac' if number % 2 else '.wav'}").write_bytes(content)


def temporary():
    """A folder that is there when the test case is made, and gone in the end."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class TestModelNet(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = ModelNet
    SPLITS: ClassVar = {"train": 4, "test": 2}
    BUILDER_CONFIG_NAMES_TO_TEST: ClassVar = ["10"]
    EXAMPLE_DIR = temporary()
    write_meshes(EXAMPLE_DIR, ([1, 2], [3]))


class TestAudioSet(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = AudioSet
    SPLITS: ClassVar = {"train": 2, "test": 1}
    BUILDER_CONFIG_NAMES_TO_TEST: ClassVar = ["balanced"]
    EXAMPLE_DIR = temporary()
    write_clips(EXAMPLE_DIR, {"--a": ["/m/09x0r", "/m/04rlf"], "b-_": ["/t/dd00088"]}, {"c": ["/m/04rlf"]})


@pytest.fixture
def manual(tmp_path):
    """Where tensorflow-datasets looks for what was downloaded by hand."""
    with no_cloud():
        yield tmp_path / "downloads" / "manual"


def test_meshes_by_name_become_points_of_their_surface(tmp_path, manual):
    write_meshes(manual, (range(5), range(5, 7)))
    source = load_source("tfds:model_net/10", data_dir=tmp_path, num_points=13)
    assert (source.modality, source.example_shape, len(source.class_names)) == ("points", (13, 3), 10)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 9, "validation": 1, "test": 4}
    for split in source.splits.values():
        for example, label, fact in zip(split.examples, split.labels, split.facts, strict=True):
            height = np.ptp(example["points"][:, 2])
            assert example["points_padding_mask"].all()
            assert (0.5 < height < 3.7) if source.class_names[label] == "bathtub" else (2 < height < 8)
            assert fact["faces"] == 4
    again = load_source("tfds:model_net/10", data_dir=tmp_path, num_points=13)  # prepared: read, not made
    np.testing.assert_array_equal(again.splits["test"].examples["points"], source.splits["test"].examples["points"])


def test_meshes_that_cannot_be_read_are_left_out_and_named(tmp_path, manual):
    write_meshes(manual, (range(5), range(5, 7)))
    (manual / "ModelNet10" / "toilet" / "train" / "toilet_0002.off").write_bytes(b"OFF\n9 1 0\n0 0 0\n")
    source = load_source("tfds:model_net/10", data_dir=tmp_path, num_points=13)
    assert sum(len(split) for split in source.splits.values()) == 13
    (note,) = [note for note in source.report.notes if "left out" in note]
    assert note.startswith(
        "tfds:model_net/10: left out 1 meshes of the train split: toilet_0002.off must be a readable"
    )
    again = load_source("tfds:model_net/10", data_dir=tmp_path, num_points=13)  # prepared: read, not made
    assert note in again.report.notes


def test_clips_by_name_have_several_labels_and_what_is_gone_is_named(tmp_path, manual):
    labels = [["/m/09x0r", "/m/04rlf"], ["/t/dd00088"], ["/m/09x0r"]]
    write_clips(manual, {f"train{i}": labels[i % 3] for i in range(6)}, {f"test{i}": labels[i % 3] for i in range(3)})
    (manual / "clips" / "train1.flac").unlink()
    (manual / "clips" / "train2.wav").write_bytes(b"no sound")
    whole = encoded(sine(600, 0.8, 48_000), 48_000, "flac")
    (manual / "clips" / "train3.flac").write_bytes(whole[: len(whole) // 2])
    (manual / "clips" / "test0.wav").write_bytes(wav_bytes(np.tile(sine(300, 0.1, 8000), 601), 8000))
    source = load_source("tfds:audio_set", data_dir=tmp_path, clip_seconds=0.1)
    assert (source.modality, source.class_names) == ("audio", ("Speech", "Gush", "Music, loud"))
    assert source.is_multi_label
    assert source.example_shape[1] == 48_000
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 3, "validation": 1, "test": 3}
    rows = sorted(map(tuple, source.splits["test"].labels))
    assert rows == [(0, 1, 0), (1, 0, 0), (1, 0, 1)]
    (note,) = [note for note in source.report.notes if "left out" in note]
    assert note.startswith("tfds:audio_set: left out 2 clips of balanced_train_segments.csv: train1: There must be")
    assert "train2.wav` must be a readable sound" in note
    table = "balanced_train_segments.csv"
    said = "1 files end early or cannot be decoded to their end, and are used up to there: train3"
    assert f"tfds:audio_set: {table}: {said}" in source.report.notes
    assert (
        "tfds:audio_set: eval_segments.csv: 1 clips are longer than 60 s, and end there: test0" in source.report.notes
    )
    lengths = [int(example["length"]) for split in source.splits.values() for example in split.examples]
    assert sorted(lengths)[1:6] == [4800] * 5
    assert min(lengths) < 4800 < max(lengths)
    for split in source.splits.values():
        for example in split.examples:
            assert np.abs(example["samples"]).max() in range(8100, 16500)  # a half in both, or in one of two channels


def test_what_is_not_there_is_said(tmp_path, manual):
    with pytest.raises(InputError, match=r"tfds:model_net.*ModelNet40/<class>/<train or test>/<name>.off"):
        load_source("tfds:model_net", data_dir=tmp_path)
    (manual / "ModelNet40" / "bed" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match=r"must hold <class>/train/<name>.off"):
        load_source("tfds:model_net", data_dir=tmp_path)


def test_tables_of_another_form_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text(SEGMENTS + "a, 1.0, 2.0\n")
    with pytest.raises(InputError, match=r"A line of a.csv must be a clip.*line=4"):
        list(read_segments(tmp_path / "a.csv"))
