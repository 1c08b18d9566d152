"""Reading pictures, what stands in front of a model, and augmentation."""

import collections

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_perceiver._checks import InputError
from keras_perceiver.data.images import augment_image, normalize_pixels, read_image, shift_image


def save(pixels, path, **options):
    Image.fromarray(np.asarray(pixels)).save(path, **options)
    return path


def test_pixels_are_normalized_to_minus_one_and_one():
    np.testing.assert_allclose(normalize_pixels(tf.constant([0, 51, 255], tf.uint8)), [-1.0, -0.6, 1.0], atol=1e-6)


def test_a_picture_is_read_as_it_was_written(tmp_path):
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    np.testing.assert_array_equal(read_image(save(grey, tmp_path / "a.png"), (2, 3, 1))[..., 0], grey)
    color = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 10
    np.testing.assert_array_equal(read_image(save(color, tmp_path / "b.png"), (2, 3, 3)), color)


def test_colour_becomes_grey_and_grey_becomes_colour(tmp_path):
    red = np.zeros((2, 3, 3), np.uint8)
    red[..., 0] = 255
    np.testing.assert_array_equal(read_image(save(red, tmp_path / "a.png"), (2, 3, 1)), np.full((2, 3, 1), 76.0))
    grey = np.full((2, 3), 7, np.uint8)
    np.testing.assert_array_equal(read_image(save(grey, tmp_path / "b.png"), (2, 3, 3)), np.full((2, 3, 3), 7.0))


def test_resizing_averages_areas(tmp_path):
    pixels = np.array([[0, 100, 8, 8], [0, 100, 8, 8]], np.uint8)
    np.testing.assert_array_equal(read_image(save(pixels, tmp_path / "a.png"), (1, 2, 1)).ravel(), [50, 8])


def test_invert_turns_dark_ink_on_white_into_light_ink_on_black(tmp_path):
    pixels = np.array([[255, 0]], np.uint8)
    np.testing.assert_array_equal(
        read_image(save(pixels, tmp_path / "a.png"), (1, 2, 1), invert=True).ravel(), [0, 255]
    )


@pytest.mark.parametrize("invert", [False, True])
def test_what_is_transparent_is_background(tmp_path, invert):
    pixels = np.zeros((1, 2, 4), np.uint8)
    pixels[0, 1] = (0, 0, 0, 255) if invert else (255, 255, 255, 255)  # ink, beside a transparent pixel
    image = read_image(save(pixels, tmp_path / "a.png"), (1, 2, 1), invert=invert)
    np.testing.assert_array_equal(image.ravel(), [0, 255])


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    pixels = np.array([[0, 257 * 100, 65535]], np.uint16)
    np.testing.assert_array_equal(read_image(save(pixels, tmp_path / "a.png"), (1, 3, 1)).ravel(), [0, 100, 255])


def test_the_orientation_of_the_camera_is_applied(tmp_path):
    pixels = np.array([[0, 255]], np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 8  # to be turned by 90 degrees, counter-clockwise
    image = read_image(save(pixels, tmp_path / "a.png", exif=exif), (2, 1, 1))
    np.testing.assert_array_equal(image.ravel(), [255, 0])


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_what_is_no_picture_is_refused_by_name(tmp_path, content):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"a.png` must be a readable picture"):
        read_image(path, (8, 8, 1))


def test_a_truncated_picture_is_refused(tmp_path):
    path = save(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match="readable picture"):
        read_image(path, (8, 8, 1))


def test_a_shift_moves_one_pixel_in_one_direction_and_zeros_move_in():
    image = np.arange(1, 13, dtype=np.float32).reshape(3, 4, 1)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    legal = {padded[i : i + 3, j : j + 4].tobytes(): (i, j) for i, j in [(0, 1), (2, 1), (1, 0), (1, 2), (1, 1)]}
    moves = collections.Counter(
        legal[shift_image(tf.constant(image), tf.constant([5, n]), 0.4).numpy().tobytes()] for n in range(500)
    )
    assert 270 < moves.pop((1, 1)) < 330  # six in ten stay where they are
    assert all(30 < count < 70 for count in moves.values())
    assert len(moves) == 4


def test_noise_has_the_given_scale():
    noisy = augment_image(noise_std=20.0)(tf.zeros((61, 67, 1)), tf.constant([1, 2])).numpy()
    assert abs(noisy.mean()) < 1.5
    assert 19 < noisy.std() < 21


def test_augmentation_is_a_function_of_the_seed_inside_map_too():
    image = tf.reshape(tf.range(20.0), (5, 4, 1))
    augment = augment_image(shift_rate=0.5, noise_std=0.1)
    seeds = tf.data.Dataset.range(23).map(lambda n: tf.stack([tf.cast(n, tf.int32), 1]))
    inside = [x.numpy() for x in seeds.map(lambda seed: augment(image, seed), num_parallel_calls=4)]
    outside = [augment(image, seed).numpy() for seed in seeds]
    np.testing.assert_array_equal(inside, outside)
    assert len({x.tobytes() for x in inside}) == 23
