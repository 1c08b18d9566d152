"""Augmentation of video: what happens to one frame happens to all of them."""

import numpy as np
import pytest
import tensorflow as tf

from keras_perceiver._checks import InputError
from keras_perceiver.data.video_augmentation import augment_video

PICTURE = np.random.default_rng(0).integers(0, 256, (13, 11, 3)).astype(np.float32)
STILL = tf.constant(np.broadcast_to(PICTURE, (7, 13, 11, 3)))
EACH = [{"crop_min_area": 0.3}, {"flip_rate": 0.9}, {"color_jitter": 0.5}]
EVERYTHING = {"crop_min_area": 0.3, "flip_rate": 0.5, "color_jitter": 0.5}


@pytest.mark.parametrize("settings", [*EACH, EVERYTHING], ids=lambda s: " ".join(s))
def test_all_frames_are_changed_alike(settings):
    outcomes = set()
    for number in range(11):
        found = augment_video(**settings)(STILL, tf.constant([3, number])).numpy()
        assert found.shape == STILL.shape
        np.testing.assert_allclose(found, np.broadcast_to(found[:1], found.shape), atol=1e-3)
        assert found.min() >= -1e-3
        assert found.max() <= 255.001
        outcomes.add(found.tobytes())
    assert len(outcomes) > (1 if "flip_rate" in settings and len(settings) == 1 else 9)
    assert any(not np.allclose(np.frombuffer(o, np.float32).reshape(STILL.shape), STILL) for o in outcomes)


def test_frames_keep_their_order():
    clip = tf.constant(np.arange(7, dtype=np.float32)[:, None, None, None] * 30 * np.ones((7, 13, 11, 3), np.float32))
    moved = augment_video(crop_min_area=0.3, flip_rate=1.0)(clip, tf.constant([1, 2]))
    np.testing.assert_allclose(moved, clip, atol=1e-3)


def test_a_flip_is_a_mirror():
    flipped = augment_video(flip_rate=1.0)(STILL, tf.constant([1, 2]))
    np.testing.assert_array_equal(flipped, STILL.numpy()[:, :, ::-1])


def test_it_is_a_function_of_the_seed_inside_map_too():
    augment = augment_video(**EVERYTHING)
    seeds = [tf.constant([3, n]) for n in range(5)]
    inside = tf.data.Dataset.from_tensor_slices(seeds).map(lambda seed: augment(STILL, seed), num_parallel_calls=5)
    for found, seed in zip(inside, seeds, strict=True):
        np.testing.assert_allclose(found, augment(STILL, seed), atol=1e-2)


def test_what_is_not_asked_for_does_not_happen():
    np.testing.assert_array_equal(augment_video()(STILL, tf.constant([1, 2])), STILL)


def test_settings_are_checked():
    with pytest.raises(InputError, match=r"`color_jitter` must be a number in \[0, 1\)"):
        augment_video(color_jitter=1.0)
