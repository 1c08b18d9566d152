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
    for view in drawn("points", cloud, np.array([0.0, 0.2, 0.4, 0.0])).child_axes:
        np.testing.assert_allclose(view.collections[-1].get_facecolors()[:, 3], [0, 0.45, 0.9])


def test_raw_samples_stand_above_their_spectrogram_whose_bright_row_is_their_frequency():
    samples = np.where(np.arange(4096) < 3072, np.sin(2 * np.pi * np.arange(4096) / 8), 0)  # an eighth of the rate
    example = {"audio": samples[:, None].astype("float32"), "audio_padding_mask": np.arange(4096) < 3072}
    axes = Figure().subplots()
    MODALITIES["audio"].draw(axes, example, clip={"samples": samples, "length": 3072})
    spectrogram, waveform = axes.child_axes
    axes.figure.draw_without_rendering()
    decibels = np.ma.filled(spectrogram.images[0].get_array(), np.nan)
    assert decibels.shape == (257, 128)  # from 0 to half the rate
    assert set(np.argmax(decibels[:, :80], axis=0)) == {64}
    assert np.isnan(decibels[:, 96:]).all()  # there is no sound
    assert not np.isnan(decibels[:, :96]).any()
    np.testing.assert_allclose(waveform.lines[-1].get_ydata()[:3072], samples[:3072], atol=1e-6)
    assert waveform.get_position().y0 >= spectrogram.get_position().y1


@pytest.mark.parametrize("kind", ["audio", "audio_video"])
def test_the_real_part_of_a_waveform_stands_above_its_spectrogram(kind):
    samples = np.sin(np.arange(40.0))
    clip = {"samples": samples, "length": 30}
    example = {**sound((6, 4)), "video": np.zeros((4, 2, 4, 3), "float32")}
    axes = Figure().subplots()
    MODALITIES[kind].draw(axes, example, clip=clip)
    parts = axes.child_axes if kind == "audio" else axes.child_axes[1].child_axes
    waveform, spectrogram = parts
    axes.figure.draw_without_rendering()  # which puts the parts in their places
    drawn_samples = waveform.lines[-1].get_ydata()
    np.testing.assert_allclose(drawn_samples[:30], samples[:30])
    assert np.isnan(drawn_samples[30:]).all()
    assert spectrogram.images[0].get_array().shape == (4, 6)
    assert waveform.get_position().y0 >= spectrogram.get_position().y1
