"""Augmentation of clouds: one seed, one result."""

import numpy as np
import pytest
import tensorflow as tf

from keras_perceiver._checks import InputError
from keras_perceiver.data.point_augmentation import augment_points

POINTS = np.random.default_rng(0).normal(size=(1009, 5)).astype(np.float32)
EXAMPLE = {"points": tf.constant(POINTS), "points_padding_mask": tf.constant(np.arange(1009) < 907)}


def augmented(seed=(1, 2), **settings):
    found = augment_points(**settings)(EXAMPLE, tf.constant(seed))
    assert found.keys() == EXAMPLE.keys()
    np.testing.assert_array_equal(found["points_padding_mask"], EXAMPLE["points_padding_mask"])
    np.testing.assert_array_equal(found["points"][:, 3:], POINTS[:, 3:])  # features stay
    return found["points"].numpy()[:, :3]


def test_what_is_not_asked_for_does_not_happen():
    np.testing.assert_array_equal(augmented(), POINTS[:, :3])


def test_each_point_is_scaled_by_a_factor_of_its_own():
    factors = augmented(scale_range=0.01) / POINTS[:, :3]
    np.testing.assert_allclose(factors, factors[:, :1] * np.ones(3), rtol=1e-5)
    assert 0.99 <= factors.min() < 0.9905
    assert 1.0095 < factors.max() <= 1.01
    assert abs(factors.mean() - 1) < 1e-3


def test_dropped_points_are_a_share_that_differs_from_cloud_to_cloud():
    augment, shares, last = augment_points(point_dropout=0.75), [], None
    for number in range(200):
        found = augment(EXAMPLE, tf.constant((3, number)))
        np.testing.assert_array_equal(found["points"], POINTS)
        kept = found["points_padding_mask"].numpy()
        assert not kept[907:].any()  # what is padded does not come back
        assert last is None or (kept != last).any()
        shares.append(1 - kept[:907].mean())
        last = kept
    assert np.histogram(shares, bins=3, range=(0, 0.78))[0].min() >= 45  # uniform in [0, 0.75]: 67 each
    assert max(shares) > 0.65


def test_the_last_point_is_never_dropped():
    one = {"points": tf.zeros((4, 3)), "points_padding_mask": tf.constant([False, True, False, False])}
    augment = augment_points(point_dropout=0.99)
    for number in range(50):
        kept = augment(one, tf.constant((0, number)))["points_padding_mask"]
        np.testing.assert_array_equal(kept, [False, True, False, False])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_turn_is_one_about_its_axis(axis):
    angles = []
    for number in range(40):
        turned = augmented((7, number), rotation_axis="xyz"[axis])
        np.testing.assert_array_equal(turned[:, axis], POINTS[:, axis])
        matrix = np.linalg.lstsq(POINTS[:, :3], turned, rcond=None)[0].T
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-5)
        assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-5)  # no mirror
        angles.append(np.arctan2(matrix[(axis + 2) % 3, (axis + 1) % 3], matrix[(axis + 1) % 3, (axis + 1) % 3]))
    assert np.histogram(angles, bins=4, range=(-np.pi, np.pi))[0].min() >= 3


def test_jitter_has_the_given_scale_of_real_points():
    largest = np.abs(POINTS[:907, :3]).max()
    moved = augmented(jitter_std=0.02) - POINTS[:, :3]
    assert moved.std() == pytest.approx(0.02 * largest, rel=0.05)
    assert abs(moved.mean()) < 0.002 * largest


def test_it_is_a_function_of_the_seed_inside_map_too():
    augment = augment_points(scale_range=0.01, rotation_axis="y", jitter_std=0.01, point_dropout=0.5)
    seeds = [tf.constant([3, n]) for n in range(5)]
    inside = tf.data.Dataset.from_tensor_slices(seeds).map(lambda seed: augment(EXAMPLE, seed), num_parallel_calls=5)
    for found, seed in zip(inside, seeds, strict=True):
        expected = augment(EXAMPLE, seed)
        np.testing.assert_allclose(found["points"], expected["points"], atol=1e-5)
        np.testing.assert_array_equal(found["points_padding_mask"], expected["points_padding_mask"])
    assert len({found["points"].numpy().tobytes() for found in inside}) == 5


def test_settings_are_checked():
    with pytest.raises(InputError, match="`rotation_axis` must be one of 'x', 'y', 'z'"):
        augment_points(rotation_axis="w")
    with pytest.raises(InputError, match=r"`scale_range` must be a number in \[0, 1\)"):
        augment_points(scale_range=1.0)
    with pytest.raises(InputError, match=r"`point_dropout` must be a number in \[0, 1\)"):
        augment_points(point_dropout=1.0)
