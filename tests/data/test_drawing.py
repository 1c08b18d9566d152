"""Weights of bytes lie over what their bytes stand for."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_perceiver.data import MODALITIES
from keras_perceiver.data.drawing import highlighted


def test_a_byte_covers_its_part_of_the_example():
    opacity = highlighted([[0.0, 1.0, 0.5]], (2, 6))[..., 3]
    np.testing.assert_allclose(opacity, [[0, 0, 0.9, 0.9, 0.45, 0.45]] * 2)
    assert not highlighted(np.zeros(3), (3,))[..., 3].any()


def drawn(kind, example, weights):
    axes = Figure().subplots()
    MODALITIES[kind].draw(axes, example, weights)
    return axes


def sound(shape):
    return {"audio": np.zeros((*shape, 1), "float32"), "audio_padding_mask": np.ones(shape, bool)}


@pytest.mark.parametrize(
    ("kind", "example", "byte", "weights_shape", "covered"),
    [
        ("image", np.zeros((4, 6, 3), "float32"), (1, 2), (2, 3), np.s_[2:4, 4:6]),
        ("audio", sound((6, 4)), (2, 0), (3, 2), np.s_[0:2, 4:6]),  # drawn with the bins upwards
        ("audio", sound((6,)), (1,), (3,), np.s_[:, 2:4]),
        # Frames 0, 1, 2, 3 in two rows, each with a white column and row behind it.
        ("video", np.zeros((4, 2, 4, 3), "float32"), (1, 0, 1), (2, 1, 2), [np.s_[3:5, 2:4], np.s_[3:5, 7:9]]),
    ],
)
def test_the_weight_of_one_byte_lies_over_that_byte(kind, example, byte, weights_shape, covered):
    weights = np.zeros(weights_shape)
    weights[byte] = 1.0
    overlay = np.asarray(drawn(kind, example, weights).images[-1].get_array())
    is_orange = overlay[..., 0] > overlay[..., 2] + 0.1
    expected = np.zeros(overlay.shape[:2], bool)
    for part in covered if isinstance(covered, list) else [covered]:
        expected[part] = True
    np.testing.assert_array_equal((overlay[..., 3] > 0.5) & is_orange, expected)


def test_the_weights_of_points_lie_over_the_real_ones():
    cloud = {"points": np.eye(4, 3, dtype="float32"), "points_padding_mask": np.array([True, True, True, False])}
    colors = drawn("points", cloud, np.array([0.0, 0.2, 0.4, 0.0])).collections[-1].get_facecolors()
    np.testing.assert_allclose(colors[:, 3], [0, 0.45, 0.9])
