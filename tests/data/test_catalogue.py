"""Sets of tensorflow-datasets: prepared ones are read without a network, in both formats."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sounds import encoded, sine
from tiny import TINY_MODEL, TINY_RECIPE, quiet
from tiny_tfds import prepare, prepare_examples

from keras_perceiver._checks import InputError
from keras_perceiver.data import MODALITIES, Lazy, catalogue, catalogue_features, load_source, read_image
from keras_perceiver.training import evaluate, train
from keras_perceiver.training.configuration import data_options


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Folders of the same set in both formats."""
    folders = {form: tmp_path_factory.mktemp(form) for form in ("tfrecord", "array_record")}
    for form, folder in folders.items():
        prepare(folder, file_format=form)
    return folders


@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
def test_a_prepared_set_is_read_without_a_network(prepared, form):
    source = load_source("tfds:fashion_mnist", data_dir=prepared[form])
    assert (source.name, source.modality, source.example_shape) == ("fashion_mnist", "image", (28, 28, 1))
    assert source.class_names[0] == "T-shirt/top"
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 36, "validation": 4, "test": 8}
    for split in source.splits.values():
        for picture, label in zip(split.examples, split.labels, strict=True):
            assert (picture == picture[0, 0, 0]).all()
            assert label == picture[0, 0, 0] // 3 % 10  # the right label for the right picture


def test_both_formats_hold_the_same_and_resizing_is_the_readers(prepared):
    one, other = (load_source("tfds:fashion_mnist", data_dir=p, image_size=5) for p in prepared.values())
    assert one.example_shape == (5, 5, 1)
    assert sorted(one.splits["test"].examples[:, 0, 0, 0]) == sorted(other.splits["test"].examples[:, 0, 0, 0])


def test_a_large_set_stays_on_disk(prepared, monkeypatch):
    in_memory = load_source("tfds:fashion_mnist", data_dir=prepared["array_record"])
    monkeypatch.setattr(catalogue, "LARGE", 1000)
    source = load_source("tfds:fashion_mnist", data_dir=prepared["array_record"])
    split = source.splits["train"]
    assert isinstance(split.examples, Lazy)
    np.testing.assert_array_equal(split.examples.array(), in_memory.splits["train"].examples)
    np.testing.assert_array_equal(split.labels, in_memory.splits["train"].labels)
    with pytest.raises(InputError, match="must be prepared as array_record"):
        load_source("tfds:fashion_mnist", data_dir=prepared["tfrecord"])


def broken_pictures(monkeypatch, which):
    """Those of these values, three times their number in the set, cannot be read; returns which were asked for."""
    real = catalogue_features.read_image

    def read(encoded, shape):
        picture = real(encoded, shape)
        if picture[0, 0, 0] // 3 in which:
            raise InputError("no picture")
        return picture

    monkeypatch.setattr(catalogue_features, "read_image", read)


@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
def test_broken_pictures_are_left_out_and_named(prepared, monkeypatch, form):
    broken_pictures(monkeypatch, (7, 12))
    source = load_source("tfds:fashion_mnist", data_dir=prepared[form])
    assert sum(len(split) for split in source.splits.values()) == 48 - 3  # 7 is in both splits
    for split in source.splits.values():
        for picture, label in zip(split.examples, split.labels, strict=True):
            assert label == picture[0, 0, 0] // 3 % 10
            assert picture[0, 0, 0] // 3 not in (7, 12)
    assert [(problem.kind, problem.reason) for problem in source.report.problems] == [
        ("broken example", "no picture")
    ] * 3
    assert len({name for split in source.splits.values() for name in split.names}) == 45
    with pytest.raises(InputError, match=r"With `strict` nothing may be skipped.*skipped 3 \(broken example\): train/"):
        load_source("tfds:fashion_mnist", data_dir=prepared[form], strict=True)


def test_where_nothing_can_be_read_it_is_said(prepared, monkeypatch):
    broken_pictures(monkeypatch, range(40))
    with pytest.raises(InputError, match=r"hold examples that can be read.*split='train'.*train/0: no picture"):
        load_source("tfds:fashion_mnist", data_dir=prepared["tfrecord"])


def test_a_broken_picture_of_a_large_set_is_named_when_it_is_read(prepared, monkeypatch):
    broken_pictures(monkeypatch, range(40))
    monkeypatch.setattr(catalogue, "LARGE", 1000)
    source = load_source("tfds:fashion_mnist", data_dir=prepared["array_record"])
    with pytest.raises(InputError, match=r"tfds:fashion_mnist, train, example \d+: no picture"):
        source.splits["train"].examples.array()


@pytest.mark.parametrize("large", [2**31, 1000])
def test_broken_sounds_are_left_out_wherever_the_set_lies(tmp_path, monkeypatch, large):
    digits = [{"audio": tone(i, 8000), "label": i % 10, "audio/filename": f"{i}.wav"} for i in range(30)]
    digits[4]["audio"] = np.array([40_000, 1], np.int64)  # more than 16 bits
    prepare_examples(tmp_path, "spoken_digit", {"train": digits}, file_format="array_record")
    monkeypatch.setattr(catalogue, "LARGE", large)
    source = load_source("tfds:spoken_digit", data_dir=tmp_path)
    assert sum(len(split) for split in source.splits.values()) == 29
    (problem,) = source.report.problems
    assert "whole numbers of 16 bits" in problem.reason
    by_length = {len(digit["audio"]): digit["label"] for digit in digits}
    for split in source.splits.values():
        assert problem.path not in split.names
        for place, (label, fact) in enumerate(zip(split.labels, split.facts, strict=True)):
            length = int(split.examples[place]["length"])
            assert fact["seconds"] == length / 8000
            assert label == by_length[length]


def test_a_split_without_labels_is_not_decoded(tmp_path, monkeypatch):
    prepare(tmp_path, "Cifar10", version="3.0.2", counts={"train": 40, "test": 1}, shape=(8, 8, 3))
    read = []
    monkeypatch.setattr(catalogue_features, "read_image", lambda *args: read.append(args) or read_image(*args))
    load_source("tfds:cifar10:3.0.2", data_dir=tmp_path)
    assert len(read) == 40


def test_pictures_of_unknown_size_and_a_split_without_labels(tmp_path):
    prepare(
        tmp_path, "Cifar10", version="3.0.2", counts={"train": 40, "validation": 8, "test": 1}, shape=(None, None, 3)
    )
    source = load_source("tfds:cifar10:3.0.2", data_dir=tmp_path)
    assert source.example_shape == (64, 64, 3)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 36, "validation": 4, "test": 8}
    assert "the test split of tfds:cifar10:3.0.2 has no labels and is not used" in source.report.notes


def test_a_set_of_another_kind_is_refused():
    with tfds.testing.mock_data(), pytest.raises(InputError, match=r"must be a picture, a sound, .*'text': 'Text'"):
        load_source("tfds:imdb_reviews")


def tone(number, rate, seconds=0.3):
    return np.rint(20_000 * sine(300 + 40 * number, seconds + 0.01 * number, rate)).astype(np.int64)


@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
def test_spoken_digits_are_sounds_of_eight_kilohertz(tmp_path, form):
    digits = [{"audio": tone(i, 8000), "label": i % 10, "audio/filename": f"{i}.wav"} for i in range(30)]
    prepare_examples(tmp_path, "spoken_digit", {"train": digits}, file_format=form)
    source = load_source("tfds:spoken_digit", data_dir=tmp_path)
    assert (source.modality, source.class_names) == ("audio", tuple("0123456789"))
    assert source.example_shape[1] == 8000
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 22, "validation": 2, "test": 6}
    by_length = {len(digit["audio"]): digit for digit in digits}
    for split in source.splits.values():
        for example, label, fact in zip(split.examples, split.labels, split.facts, strict=True):
            length = int(example["length"])
            np.testing.assert_array_equal(example["samples"][:length], by_length[length]["audio"])  # to the bit
            assert label == by_length[length]["label"]
            assert fact["seconds"] == length / 8000


@pytest.mark.thorough
def test_a_run_on_spoken_digits_can_be_repeated(tmp_path):
    digits = [{"audio": tone(i, 8000), "label": i % 10, "audio/filename": f"{i}.wav"} for i in range(30)]
    prepare_examples(tmp_path, "spoken_digit", {"train": digits})
    metrics = train(
        "tfds:spoken_digit",
        output=tmp_path / "run",
        shelf=None,
        source={"data_dir": tmp_path, "sample_rate": 4000, "clip_seconds": 0.2},
        model=TINY_MODEL,
        recipe={**TINY_RECIPE, "epochs": 1, "batch_size": 8},
        console=quiet(),
    )
    assert evaluate(tmp_path / "run")["cross_entropy"] == metrics["cross_entropy"]


def test_speech_commands_bring_their_splits_and_can_be_resampled(tmp_path):
    commands = [{"audio": tone(i, 16_000), "label": ("yes", "no", "_silence_")[i % 3]} for i in range(9)]
    splits = {"train": commands, "validation": commands[:3], "test": commands[3:6]}
    prepare_examples(tmp_path, "speech_commands", splits)
    source = load_source("tfds:speech_commands", data_dir=tmp_path, sample_rate=8000)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 9, "validation": 3, "test": 3}
    assert source.class_names[source.splits["test"].labels[0]] in ("yes", "no", "_silence_")
    for example in source.splits["train"].examples:
        number = round((int(example["length"]) / 8000 - 0.3) * 100)
        heard = example["samples"][200:1800] / 20_000
        np.testing.assert_allclose(heard, sine(300 + 40 * number, 1.0, 8000)[200:1800], atol=0.02)


@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
def test_films_of_ucf101_are_spread_frames(tmp_path, form):
    def film(i):
        return {"video": [np.full((256, 256, 3), 10 * j + i, np.uint8) for j in range(7 + i)], "label": i % 3}

    films = [film(i) for i in range(6)]
    prepare_examples(tmp_path, "ucf101", {"train": films, "test": films[:3]}, file_format=form)
    source = load_source("tfds:ucf101", data_dir=tmp_path, num_frames=4, frame_size=8)
    assert (source.modality, source.example_shape, source.class_names[0]) == ("video", (4, 8, 8, 3), "ApplyEyeMakeup")
    for split in source.splits.values():
        for clip, fact in zip(split.examples, split.facts, strict=True):
            i = fact["frames"] - 7
            expected = [10 * (k * (7 + i) // 4) + i for k in range(4)]
            np.testing.assert_allclose(clip.mean(axis=(1, 2, 3)), expected, atol=2)  # JPEG
    asked, _ = data_options("tfds:ucf101", "audioset_video", {"data_dir": tmp_path, "frame_size": 8}, None)
    source = load_source("tfds:ucf101", **asked)
    assert source.example_shape == (32, 8, 8, 3)
    said = "frames have no times: they are spread over each film, whatever `frame_rate` is asked for"
    assert source.report.lines().count(said) == 1


def test_options_are_those_of_the_modality():
    with tfds.testing.mock_data(), pytest.raises(InputError, match=r"not for data of the modality 'audio'.*num_points"):
        load_source("tfds:spoken_digit", num_points=7)


@pytest.mark.parametrize(
    ("samples", "rate", "rule"),
    [
        (np.array([40_000]), 8000, "whole numbers of 16 bits"),
        (np.zeros(0), 8000, "must hold samples"),
        (np.zeros(9), None, "how many samples"),
        (np.array([np.nan]), 8000, "must be finite"),
    ],
)
def test_sounds_that_cannot_be_understood_are_refused(samples, rate, rule):
    feature = tfds.features.Audio(sample_rate=rate, dtype=samples.dtype)
    with pytest.raises(InputError, match=rule):
        catalogue_features.form_of(feature).scan(samples, feature)


def test_sounds_that_are_stored_as_files_are_read_by_the_reader():
    feature = tfds.features.Audio(file_format="flac", dtype=np.int16, lazy_decode=True)
    content = encoded(sine(440, 0.2, 8000), 8000, "flac")
    form, shape = catalogue_features.form_of(feature), (1280, 8000, 2000)
    assert form.scan(content, feature) == MODALITIES["audio"].scan(content)
    assert form.read(content, feature, shape) == MODALITIES["audio"].read(content, shape)


def test_an_unknown_set_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"data='tfds:fashion_mnst'. Did you mean 'fashion_mnist'"):
        load_source("tfds:fashion_mnst")


def test_what_cannot_be_downloaded_says_why(prepared, monkeypatch):
    def fail(self, **_):
        raise OSError("no network today")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(InputError, match=r"possible to download: tfds:fashion_mnist. no network today"):
        load_source("tfds:fashion_mnist", data_dir=prepared["tfrecord"])
