"""Sets of tensorflow-datasets: prepared ones are read without a network, in both formats."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tiny_tfds import prepare

from keras_perceiver._checks import InputError
from keras_perceiver.data import MODALITIES, Lazy, catalogue, load_source, read_image


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


@pytest.mark.parametrize("large", [2**31, 1000])
def test_a_broken_picture_is_named_by_its_split_and_index(prepared, monkeypatch, large):
    def fail(*_):
        raise InputError("no picture")

    monkeypatch.setattr(catalogue, "LARGE", large)
    object.__setattr__(MODALITIES["image"], "read", fail)
    try:
        with pytest.raises(InputError, match="tfds:fashion_mnist, train, example 0: no picture"):
            load_source("tfds:fashion_mnist", data_dir=prepared["array_record"]).splits["train"].examples.array()
    finally:
        object.__setattr__(MODALITIES["image"], "read", read_image)


def test_a_split_without_labels_is_not_decoded(tmp_path, monkeypatch):
    prepare(tmp_path, "Cifar10", version="3.0.2", counts={"train": 40, "test": 1}, shape=(8, 8, 3))
    read = []
    object.__setattr__(MODALITIES["image"], "read", lambda *args: read.append(args) or read_image(*args))
    try:
        load_source("tfds:cifar10:3.0.2", data_dir=tmp_path)
    finally:
        object.__setattr__(MODALITIES["image"], "read", read_image)
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
    with tfds.testing.mock_data(), pytest.raises(InputError, match=r"must be \(Image, ClassLabel\). .*'audio'"):
        load_source("tfds:speech_commands")


def test_an_unknown_set_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"data='tfds:fashion_mnst'. Did you mean 'fashion_mnist'"):
        load_source("tfds:fashion_mnst")


def test_what_cannot_be_downloaded_says_why(prepared, monkeypatch):
    def fail(self, **_):
        raise OSError("no network today")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(InputError, match=r"possible to download: tfds:fashion_mnist. no network today"):
        load_source("tfds:fashion_mnist", data_dir=prepared["tfrecord"])
