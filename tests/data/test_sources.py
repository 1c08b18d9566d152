"""Where data come from: the digits, and how a data set is split."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_perceiver._checks import InputError
from keras_perceiver.data.sources import load_source


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


def test_splits_hold_every_example_once_and_keep_the_shares_of_the_classes():
    labels = np.repeat([0, 1, 2], [50, 100, 150]).astype(np.int32)
    examples = np.arange(300)[:, None]
    splits = stratified_splits(examples, labels, test_fraction=0.2, validation_fraction=0.25, seed=7)
    seen = np.concatenate([split.examples.ravel() for split in splits.values()])
    assert sorted(seen) == list(range(300))
    for name, counts in {"train": [30, 60, 90], "validation": [10, 20, 30], "test": [10, 20, 30]}.items():
        assert np.bincount(splits[name].labels).tolist() == counts
        np.testing.assert_array_equal(splits[name].labels, labels[splits[name].examples.ravel()])


def test_splits_are_a_function_of_their_seed():
    labels = np.repeat([0, 1], 50).astype(np.int32)
    one, same, other = (
        stratified_splits(np.arange(100), labels, test_fraction=0.2, validation_fraction=0.2, seed=seed)
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one["test"].examples, same["test"].examples)
    assert set(one["test"].examples) != set(other["test"].examples)


def test_an_unknown_data_set_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"Received: data='digist'. Did you mean 'digits'\?"):
        load_source("digist")
