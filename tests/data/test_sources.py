"""Where data come from: digits, folders, .npz files and data sets of Python's."""

import lzma
import os
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from pictures import write_picture, write_pictures
from PIL import Image
from sklearn.datasets import load_digits

from keras_perceiver._checks import InputError
from keras_perceiver.data import Lazy, dataset_source, load_source
from keras_perceiver.data.source import slug


def test_digits_are_scikit_learns_and_each_is_in_one_split():
    source = load_source("digits")
    ours = np.concatenate([split.examples for split in source.splits.values()])
    labels = np.concatenate([split.labels for split in source.splits.values()])
    images, targets = load_digits(return_X_y=True)
    values = np.rint(ours / 255 * 16).astype(int).reshape(-1, 64)
    as_rows = {(*row, label) for row, label in zip(values, labels, strict=True)}
    assert len(labels) == 1797
    assert as_rows == {(*image.astype(int), target) for image, target in zip(images, targets, strict=True)}
    assert ours.dtype == np.uint8
    assert ours.max() == 255
    assert source.example_shape == (8, 8, 1)


def test_a_fifth_of_the_digits_is_held_out():
    splits = load_source("digits").splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 1293, "validation": 144, "test": 360}


def test_an_unknown_data_set_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"Received: data='digist'. Did you mean 'digits'\?"):
        load_source("digist")
    with pytest.raises(InputError, match="one of the known data sets"):
        load_source("a" * 5000)  # no file system looks for it


def test_a_source_is_taken_as_it_is():
    source = load_source("digits")
    assert load_source(source) is source
    with pytest.raises(InputError, match=r"without other options. Received: options=\['splits', 'strict'\]"):
        load_source(source, splits={}, strict=True)
    with pytest.raises(InputError, match=r"`data` must be a name, a path or a `Source`. Received: data='int'"):
        load_source(3)


@pytest.mark.parametrize(
    ("text", "name"),
    [("my photos", "my-photos"), ("\u00e9t\u00e9", "ete"), ("\u732b", "data"), ("..", "data"), ("a/b", "a-b")],
)
def test_a_name_can_stand_in_a_path(text, name):
    assert slug(text) == name


# Folders


def values(split):
    """The one value of every picture of a split, by the name of its file."""
    return {name: int(split.examples[i].max()) for i, name in enumerate(split.names)}


def test_a_folder_of_classes_becomes_three_splits_of_the_right_pictures(tmp_path):
    written = write_pictures(tmp_path / "my photos", {"cat": 13, "dog": 11, "owl": 1})
    source = load_source(tmp_path / "my photos")
    assert source.name == "my-photos"
    assert source.class_names == ("cat", "dog", "owl")
    assert source.example_shape == (6, 5, 1)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 18, "validation": 2, "test": 5}
    found = {}
    for name, split in source.splits.items():
        assert isinstance(split.examples, Lazy)
        assert found.keys().isdisjoint(split.names)
        found |= values(split)
        for file, label in zip(split.names, split.labels, strict=True):
            assert file.split("/")[0] == source.class_names[label]
            assert source.made_splits[file] == name
    assert found == written
    assert "owl/0.png" in source.splits["train"].names  # a class with one example is trained on
    assert "class 'owl' has only 1 training example" in source.report.lines()
    assert load_source(tmp_path / "my photos").made_splits == source.made_splits


def test_recorded_splits_are_used_again_whatever_was_added(tmp_path):
    write_pictures(tmp_path, {"cat": 13, "dog": 11})
    made = load_source(tmp_path).made_splits
    write_pictures(tmp_path, {"cat": 29, "dog": 11})
    assert load_source(tmp_path).made_splits != made
    again = load_source(tmp_path, splits=made)
    assert again.made_splits == made
    assert "16 examples are left out that were added after the splits were made" in again.report.notes
    os.unlink(tmp_path / "cat" / "0.png")
    with pytest.raises(InputError, match=r"must hold every example of the run's splits. .*cat/0.png"):
        load_source(tmp_path, splits=made)


def test_a_folder_of_splits_is_taken_as_it_is(tmp_path):
    for name, count in (("train", 7), ("val", 3), ("test", 2)):
        write_pictures(tmp_path / name, {"cat": count, "dog": count})
    source = load_source(tmp_path)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 14, "validation": 6, "test": 4}
    assert all(name.startswith("test/") for name in source.splits["test"].names)
    assert source.made_splits == {}


def test_a_validation_split_without_a_test_split_is_what_is_tested_on(tmp_path):
    for name, count in (("train", 11), ("valid", 3)):
        write_pictures(tmp_path / name, {"cat": count, "dog": count})
    source = load_source(tmp_path)
    assert all(name.startswith("valid/") for name in source.splits["test"].names)
    assert all(name.startswith("train/") for name in source.splits["validation"].names)
    assert "the data bring no test split: their validation split is the test split" in source.report.notes


def test_pictures_of_many_sizes_are_resized_and_colours_stay(tmp_path):
    write_pictures(tmp_path, {"cat": 7, "dog": 7})
    Image.new("RGB", (100, 31), (255, 0, 0)).save(tmp_path / "cat" / "red.jpg")
    assert load_source(tmp_path).example_shape == (64, 64, 3)
    assert load_source(tmp_path, image_size=11).example_shape == (11, 11, 3)
    assert load_source(tmp_path, shape=(3, 5, 1)).splits["train"].examples[0].shape == (3, 5, 1)


def test_broken_files_are_skipped_counted_and_named_and_an_error_with_strict(tmp_path):
    write_pictures(tmp_path, {"cat": 9, "dog": 9})
    (tmp_path / "cat" / "text.png").write_text("no picture")
    (tmp_path / "dog" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 and so on")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.gif").write_bytes(b"GIF89a")
    source = load_source(tmp_path)
    assert source.class_names == ("cat", "dog")
    assert sum(len(split) for split in source.splits.values()) == 18
    kinds = {(p.kind, p.path) for p in source.report.problems}
    assert kinds == {
        ("broken file", "cat/text.png"),
        ("broken file", "dog/cut.jpg"),
        ("broken file", "broken/a.gif"),
        ("empty class", "empty"),
        ("empty class", "broken"),
    }
    (line,) = [line for line in source.report.lines() if "broken file" in line]
    assert line.startswith("skipped 3 (broken file): ")
    assert "`cat/text.png` must be a readable picture" in line
    with pytest.raises(InputError, match=r"With `strict` nothing may be skipped. .*cat/text.png"):
        load_source(tmp_path, strict=True)


def test_a_folder_around_the_folder_of_classes_is_recognised(tmp_path):
    write_pictures(tmp_path / "inner", {"cat": 3, "dog": 3})
    with pytest.raises(InputError, match=r"at least two classes. .*Is it the folder '.*inner' that you mean\?"):
        load_source(tmp_path)


def test_a_folder_in_which_nothing_can_be_read_says_why(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_text("no picture")
    with pytest.raises(InputError, match=r"at least one file that can be read. .*cat/a.png"):
        load_source(tmp_path)


def test_several_labels_a_file_become_rows_of_zeros_and_ones(tmp_path):
    rows = ["file,label"]
    for i in range(20):
        write_picture(tmp_path / f"{i}.png", i)
        rows.append(f"{i}.png,{'cat' if i % 2 else 'dog | cat'}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    source = load_source(tmp_path)
    assert source.is_multi_label
    for split in source.splits.values():
        for name, labels in zip(split.names, split.labels, strict=True):
            assert labels.tolist() == ([1, 0] if int(name.removesuffix(".png")) % 2 else [1, 1])


# Arrays


def arrays(count=40, channels=None):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (count, 6, 5) if channels is None else (count, 6, 5, channels)).astype(np.uint8)
    return x, (np.arange(count) % 4).astype(np.uint8)


def test_an_npz_file_with_the_arrays_of_keras(tmp_path):
    x, y = arrays()
    np.savez(tmp_path / "a b.npz", x_train=x[:30], y_train=y[:30, None], x_test=x[30:], y_test=y[30:, None])
    source = load_source(tmp_path / "a b.npz")
    assert source.name == "a-b"
    assert source.class_names == ("0", "1", "2", "3")
    assert source.example_shape == (6, 5, 1)
    np.testing.assert_array_equal(source.splits["test"].examples[..., 0], x[30:])
    np.testing.assert_array_equal(source.splits["test"].labels, y[30:])
    train, validation = source.splits["train"], source.splits["validation"]
    assert (len(train), len(validation)) == (27, 3)
    for split in (train, validation):
        for name, picture, label in zip(split.names, split.examples, split.labels, strict=True):
            index = int(name.removeprefix("train/"))
            np.testing.assert_array_equal(picture[..., 0], x[index])
            assert label == y[index]


def test_labels_of_an_npz_file_may_be_names_and_pictures_may_be_resized(tmp_path):
    x, y = arrays(channels=3)
    np.savez(tmp_path / "a.npz", x_train=x.astype(np.float64), y_train=np.array(["wolf", "yak", "ant", "bee"])[y])
    source = load_source(tmp_path / "a.npz", image_size=3)
    assert source.class_names == ("ant", "bee", "wolf", "yak")
    assert source.example_shape == (3, 3, 3)
    assert source.splits["train"].examples.dtype == np.uint8


class Bomb:
    def __reduce__(self):
        return (os.abort, ())


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ({"x_train": np.zeros((8, 5, 5))}, "`x_train` and `y_train` must come together"),
        ({"x": np.zeros(3)}, "must hold `x_train` and `y_train`"),
        ({"x_train": np.zeros((8, 5)), "y_train": np.arange(8)}, "shape"),
        ({"x_train": np.full((8, 5, 5), 0.5), "y_train": np.arange(8)}, r"\[0, 1\]. .*Multiply them by 255"),
        ({"x_train": np.full((8, 5, 5), -3), "y_train": np.arange(8)}, r"lie in \[0, 255\]"),
        ({"x_train": np.full((8, 5, 5), np.nan), "y_train": np.arange(8)}, r"lie in \[0, 255\]"),
        ({"x_train": np.zeros((8, 5, 5)), "y_train": np.arange(7)}, "same length"),
        ({"x_train": np.zeros((8, 5, 5)), "y_train": np.arange(8) + 0.5}, "whole numbers"),
        ({"x_train": np.zeros((8, 5, 5)), "y_train": np.full(8, np.inf)}, "whole numbers"),
        ({"x_train": np.zeros((0, 5, 5)), "y_train": np.zeros(0), "class_names": ["a", "b"]}, "must hold labels"),
        ({"x_train": np.zeros((2, 5, 5)), "y_train": np.arange(2), "class_names": ["a", "a"]}, "must be unique"),
        ({"x_train": np.zeros((2, 5, 5)), "y_train": np.array(["a", "A"])}, "more than case"),
        ({"x_train": np.zeros((8, 5, 5)), "y_train": np.zeros(8)}, "at least two classes"),
        ({"x_train": np.zeros((8, 5, 5)), "y_train": np.arange(8), "class_names": ["a"]}, "numbers of `class_names`"),
        ({"x_train": np.array([Bomb()], object), "y_train": np.zeros(1)}, "readable .npz file of plain arrays"),
    ],
)
def test_an_npz_file_that_does_not_fit_is_refused(tmp_path, content, rule):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(InputError, match=rule):
        load_source(tmp_path / "a.npz")


def test_a_broken_or_bloated_npz_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.npz").write_text("no zip")
    with pytest.raises(InputError, match=r"readable .npz file"):
        load_source(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", bytes(10_000))
    monkeypatch.setattr("keras_perceiver.data.arrays.MAX_BYTES", 9_999)
    with pytest.raises(InputError, match=r"at most 9,999 bytes of arrays. .*bytes=10000"):
        load_source(tmp_path / "b.npz")
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x_train", b"no array")
    with pytest.raises(InputError, match=r"nothing but arrays. .*member='x_train'"):
        load_source(tmp_path / "d.npz")
    (tmp_path / "c.txt").write_text("")
    with pytest.raises(InputError, match=r"must be an .npz file"):
        load_source(tmp_path / "c.txt")


@pytest.mark.parametrize("error", [RuntimeError("encrypted"), lzma.LZMAError("corrupt")])
def test_an_npz_file_that_cannot_be_unpacked_is_refused(tmp_path, monkeypatch, error):
    np.savez(tmp_path / "a.npz", x_train=np.zeros((8, 5, 5)), y_train=np.arange(8))

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(zipfile.ZipFile, "open", fail)
    with pytest.raises(InputError, match=f"readable .npz file of plain arrays. .*{error}"):
        load_source(tmp_path / "a.npz")


def test_data_sets_of_pythons_become_a_source():
    x, y = arrays()
    datasets = {
        "train": tf.data.Dataset.from_tensor_slices((x[:30], y[:30])),
        "test": tf.data.Dataset.from_tensor_slices((x[30:], y[30:])),
    }
    source = dataset_source(datasets, class_names=["a", "b", "c", "d"], name="mine")
    assert (source.name, source.class_names, source.data) == ("mine", ("a", "b", "c", "d"), None)
    np.testing.assert_array_equal(source.splits["test"].examples[..., 0], x[30:])
    one_hot = {"train": tf.data.Dataset.from_tensor_slices((x, np.eye(4)[y]))}
    assert not dataset_source(one_hot).is_multi_label
    several = np.eye(4, dtype=np.float32)[y]
    several[3] = 1
    assert dataset_source({"train": tf.data.Dataset.from_tensor_slices((x, several))}).is_multi_label


def test_data_sets_that_do_not_fit_are_refused():
    x, y = arrays()
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    for datasets, rule in (
        ({"test": dataset}, "dictionary with 'train'"),
        (dataset, "dictionary with 'train'"),
        ({"train": tf.data.Dataset.from_tensor_slices(x)}, r"of \(x, y\)"),
        ({"train": dataset.batch(16)}, r"must not come in batches. .*unbatch"),
        ({"train": dataset.take(0)}, "must hold examples"),
        ({"train": dataset.repeat()}, r"must end. .*repeat"),
        ({"train": tf.data.Dataset.from_tensor_slices((["a", "b"], [0, 1]))}, "x must be numbers"),
        ({"train": tf.data.Dataset.from_tensor_slices(({"x": x}, y))}, "which are tensors"),
    ):
        with pytest.raises(InputError, match=rule):
            dataset_source(datasets)
