"""Augmentation: functions of one example and its seed, alone and inside `Dataset.map`."""

import collections

import numpy as np
import pytest
import tensorflow as tf
from PIL import ExifTags, Image

from keras_perceiver.data import images
from keras_perceiver.data.augment import (
    augment_image,
    crop_of_files,
    inception_crop,
    keras_augment,
    keras_operations,
    mix_batch,
    rand_augment,
    random_flip,
    shift_image,
)
from keras_perceiver.data.decoding import decode_part
from keras_perceiver.data.images import Crop, read_image

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (13, 11, 3)).astype(np.float32)
EVERYTHING = {
    "crop_min_area": 0.3,
    "flip_rate": 0.5,
    "rand_augment_layers": 2,
    "rand_augment_magnitude": 7,
    "shift_rate": 0.5,
    "noise_std": 3.0,
}


def seeds(count):
    return [tf.constant([5, n]) for n in range(count)]


def test_a_shift_moves_one_pixel_in_one_direction_and_zeros_move_in():
    image = np.arange(1, 13, dtype=np.float32).reshape(3, 4, 1)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    legal = {padded[i : i + 3, j : j + 4].tobytes(): (i, j) for i, j in [(0, 1), (2, 1), (1, 0), (1, 2), (1, 1)]}
    moves = collections.Counter(
        legal[shift_image(tf.constant(image), seed, 0.4).numpy().tobytes()] for seed in seeds(500)
    )
    assert 270 < moves.pop((1, 1)) < 330  # six in ten stay where they are
    assert all(30 < count < 70 for count in moves.values())
    assert len(moves) == 4


def test_noise_has_the_given_scale():
    noisy = augment_image(noise_std=20.0)(tf.zeros((61, 67, 1)), tf.constant([1, 2])).numpy()
    assert abs(noisy.mean()) < 1.5
    assert 19 < noisy.std() < 21


def test_a_flip_is_a_mirror_as_often_as_it_should_be():
    flip = random_flip(0.25)
    outcomes = collections.Counter(flip(tf.constant(PICTURE), seed).numpy().tobytes() for seed in seeds(400))
    assert set(outcomes) == {PICTURE.tobytes(), PICTURE[:, ::-1].tobytes()}
    assert 70 < outcomes[PICTURE[:, ::-1].tobytes()] < 130


def test_a_crop_is_a_part_of_the_picture_of_the_least_area_or_more():
    """Of a picture whose pixels are their own coordinates, a crop shows where it was cut."""
    size = 64
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), axis=-1).astype(np.float32)
    crop = inception_crop(0.4)
    areas, ratios = [], []
    for seed in seeds(60):
        part = crop(tf.constant(grid), seed).numpy()
        low, high = part.min(axis=(0, 1)), part.max(axis=(0, 1))
        assert (low >= 0).all()
        assert (high < size).all()
        height, width = high - low + 1
        areas.append(height * width / size**2)
        ratios.append(width / height)
    assert min(areas) > 0.35
    assert max(areas) > 0.8
    assert len(set(areas)) > 30
    assert 0.7 < min(ratios) < 0.9 < 1.1 < max(ratios) < 1.4


@pytest.mark.parametrize(("kind", "tolerance"), [("png", 1.5), ("jpg", 4.0)])
def test_a_crop_of_a_file_is_a_part_of_the_whole_picture_that_is_made_small_afterwards(tmp_path, kind, tolerance):
    """Of a picture whose pixels are their own coordinates, and of which one column in four is bright."""
    height, width, side = 96, 192, 48
    path, crop, sharp = tmp_path / f"picture.{kind}", crop_of_files(0.1), 0
    down, across = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    pixels = np.stack([across, down, across % 4 // 3 * 255], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=100, subsampling=0)
    for seed in seeds(20):
        box = crop(seed).box((height, width)).numpy()
        part = read_image(path, (side, side, 3), crop=crop(seed))
        centres = np.clip((np.arange(side)[:, None] + 0.5) * box[2:] / side - 0.5, 0, box[2:] - 1) + box[:2]
        inner = slice(2, -2)  # at the edge there is less to average
        assert np.abs(part[:, :, 1].mean(axis=1) - centres[:, 0])[inner].max() < tolerance
        assert np.abs(part[:, :, 0].mean(axis=0) - centres[:, 1])[inner].max() < tolerance
        if box[3] <= side:
            sharp += 1
            assert np.ptp(part[..., 2]) > 150
        in_graph = decode_part(tf.constant(path.read_bytes()), (side, side, 3), crop(seed).box)
        assert np.abs(in_graph - part).max() <= 2
    assert sharp
    assert np.ptp(read_image(path, (side, side, 3))[..., 2]) < 60, "made small first, no column is left"


def test_a_crop_of_a_huge_jpeg_is_of_one_that_was_made_small_while_it_was_decoded(tmp_path, monkeypatch):
    rows = np.linspace(0, 255, 1600)
    path = tmp_path / "picture.jpg"
    Image.fromarray(np.broadcast_to(rows[:, None, None], (1600, 2400, 3)).astype(np.uint8)).save(path)
    decoded, drafted = images._cut, []
    monkeypatch.setattr(images, "_cut", lambda image, *of: (drafted.append(image.size), decoded(image, *of))[1])
    crop = Crop(lambda size: (size[0] // 2, 0, size[0] // 4, size[1]), 0.5)
    part = read_image(path, (16, 16, 1), crop=crop)
    assert drafted == [(300, 200)]
    np.testing.assert_allclose(part[..., 0].mean(axis=1), rows[800:1200].reshape(16, 25).mean(axis=1), atol=2)


@pytest.mark.parametrize("mode", ["P", "RGBA", "turned"])
def test_a_crop_is_of_the_picture_as_it_is_seen(tmp_path, mode):
    """Colours of a palette, black behind what is transparent, upright: the part is that of the picture read whole."""
    pixels = np.zeros((40, 60, 4), np.uint8)
    pixels[:20, :30] = [250, 10, 90, 255]
    pixels[20:, :30] = [30, 200, 60, 255]
    pixels[:20, 30:] = [200, 200, 200, 0]
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6 if mode == "turned" else 1
    image = image if mode == "RGBA" else image.convert("RGB" if mode == "turned" else "P")
    image.save(tmp_path / "picture.png", exif=exif)
    size = (60, 40) if mode == "turned" else (40, 60)
    whole = read_image(tmp_path / "picture.png", (*size, 3))
    asked = []
    crop = Crop(lambda found: (asked.append(found), (4, 3, 30, 20))[1], 1.0)
    part = read_image(tmp_path / "picture.png", (30, 20, 3), crop=crop)
    assert asked == [size]
    assert len(np.unique(part.reshape(-1, 3), axis=0)) >= 2
    np.testing.assert_array_equal(part, whole[4:34, 3:23])


@pytest.mark.parametrize("channels", [1, 3])
def test_every_operation_of_rand_augment_is_a_function_of_its_seed(channels):
    image = tf.constant(PICTURE[None, ..., :channels])
    operations = keras_operations(0.5)
    assert len(operations) == 11
    for operation in operations:
        one, same, other = (keras_augment(operation, image, tf.constant([3, n])).numpy() for n in (1, 1, 2))
        np.testing.assert_array_equal(one, same, err_msg=operation.name)
        assert one.shape == image.shape
        assert one.min() >= -1e-3, operation.name
        assert one.max() <= 255.001, operation.name
        draws = not operation.name.startswith(("auto_contrast", "equalization", "random_posterization"))
        has_effect = channels == 3 or not operation.name.startswith("random_color_degeneration")
        assert np.array_equal(one, other) != (draws and has_effect), operation.name


def test_rand_augment_draws_from_all_operations_and_grows_with_its_magnitude():
    def outcomes(num_layers, magnitude):
        augment, drawn = rand_augment(num_layers, magnitude), tf.data.Dataset.from_tensor_slices(seeds(40))
        return np.stack(list(drawn.map(lambda seed: augment(tf.constant(PICTURE), seed)).as_numpy_iterator()))

    assert len({outcome.tobytes() for outcome in outcomes(1, 5.0)}) > 20
    change = [np.abs(outcomes(2, magnitude) - PICTURE).mean() for magnitude in (1.0, 9.0)]
    assert change[0] < change[1]


@pytest.mark.parametrize("num_parallel_calls", [1, 7])
def test_augmentation_is_a_function_of_the_seed_inside_map_too(num_parallel_calls):
    augment = augment_image(**EVERYTHING)
    drawn = tf.data.Dataset.range(23).map(lambda n: tf.stack([tf.cast(n, tf.int32), 1]))
    images = drawn.map(lambda seed: augment(tf.constant(PICTURE), seed), num_parallel_calls=num_parallel_calls)
    assert images.element_spec.shape == PICTURE.shape
    inside = [x.numpy() for x in images]
    outside = [augment(tf.constant(PICTURE), seed).numpy() for seed in drawn]
    np.testing.assert_allclose(inside, outside, atol=1e-3)
    assert len({x.tobytes() for x in inside}) == 23


def test_what_is_not_asked_for_does_not_happen():
    np.testing.assert_array_equal(augment_image()(tf.constant(PICTURE), tf.constant([1, 2])), PICTURE)
    assert mix_batch() is None


def batch(size=8):
    """Pictures of one value each, and their labels one-hot: a mixture shows what went into it."""
    images = np.broadcast_to(np.arange(size, dtype=np.float32)[:, None, None, None] * 30, (size, 9, 7, 1))
    return tf.constant(images), tf.eye(size)


def test_mix_up_weighs_pictures_and_labels_alike():
    images, labels = batch()
    mixed, mixed_labels = mix_batch(mix_up=0.8)(images, labels, tf.constant([1, 2]))
    expected = mixed_labels.numpy() @ images.numpy()[:, 0, 0, 0]
    np.testing.assert_allclose(mixed.numpy()[:, 0, 0, 0], expected, atol=1e-3)
    np.testing.assert_allclose(mixed_labels.numpy().sum(axis=1), 1, atol=1e-6)
    assert not np.array_equal(mixed, images)


def test_cut_mix_weighs_labels_by_area():
    images, labels = batch()
    mixed, mixed_labels = mix_batch(cut_mix=1.0)(images, labels, tf.constant([1, 4]))
    for row, weights in zip(mixed.numpy(), mixed_labels.numpy(), strict=True):
        shares = [(np.abs(row - value) < 1e-3).mean() for value in images.numpy()[:, 0, 0, 0]]
        assert sum(shares) == pytest.approx(1)  # every pixel comes from one picture, whole
        assert np.abs(shares - weights).max() < 0.3  # a box ends between pixels
    assert not np.array_equal(mixed, images)


def test_mixing_is_a_function_of_its_seed_and_with_both_each_batch_draws_one():
    images, labels = batch()
    mix = mix_batch(mix_up=0.5, cut_mix=1.0)
    kinds = set()
    for number in range(12):
        seed = tf.constant([9, number])
        first, second = mix(images, labels, seed), tf.function(mix)(images, labels, seed)
        np.testing.assert_allclose(first[0], second[0], atol=1e-4)
        np.testing.assert_allclose(first[1], second[1], atol=1e-6)
        kinds.add(bool(np.isin(first[0].numpy(), images.numpy()).all()))
    assert kinds == {True, False}
