"""Space to depth: no number is lost, and each lands where the formula says."""

import numpy as np
import pytest
import tensorflow as tf
from layer_checks import check_layer

from keras_perceiver import Patches
from keras_perceiver._checks import InputError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("patch_size", "shape"), [((3, 5), (2, 6, 10, 7)), (2, (2, 6, 3)), ((1, 2, 3), (2, 5, 4, 9, 1))]
)
def test_it_is_a_layer(tmp_path, patch_size, shape):
    check_layer(tmp_path, Patches, {"patch_size": patch_size}, {"content": RNG.normal(size=shape).astype("float32")})


def test_each_number_lands_where_the_formula_says():
    grid = np.arange(2 * 6 * 10 * 7, dtype="float32").reshape(2, 6, 10, 7)
    patches = np.asarray(Patches((3, 5))(grid))
    assert patches.shape == (2, 2, 2, 3 * 5 * 7)
    for i, j, y, x, channel in np.ndindex(2, 2, 3, 5, 7):
        np.testing.assert_array_equal(
            patches[:, i, j, (y * 5 + x) * 7 + channel], grid[:, 3 * i + y, 5 * j + x, channel]
        )


def test_it_is_tensorflows_space_to_depth():
    grid = RNG.normal(size=(2, 6, 9, 5)).astype("float32")
    np.testing.assert_array_equal(Patches(3)(grid), tf.nn.space_to_depth(grid, 3))


@pytest.mark.parametrize(
    ("patch_size", "rule"),
    [
        (4, r"must divide the static length of every axis. Received: patch_size=4, axes=\(6, 10\)"),
        ((2, 2, 2), "one number per axis"),
        (0, "integer of at least 1"),
        ((2, 2.5), "integer of at least 1"),
    ],
)
def test_a_size_that_does_not_fit_is_refused(patch_size, rule):
    with pytest.raises(InputError, match=rule):
        Patches(patch_size)(np.zeros((1, 6, 10, 1), "float32"))
