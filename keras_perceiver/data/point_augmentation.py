"""Augmentation of point clouds: functions of settings that return functions of one example and its seed.

As for images (`keras_perceiver.data.augment`), nothing draws from anywhere but the seed.
"""

import math

import tensorflow as tf

from keras_perceiver._checks import require_between, require_one_of

AXES = ("x", "y", "z")


def augment_points(*, scale_range=0.0, rotation_axis=None, jitter_std=0.0, point_dropout=0.0):
    """What happens to one cloud of a training batch, in this order.

    Args:
        scale_range: s of the factor in [1 - s, 1 + s] that each point is multiplied with; 0.01 in the paper.
        rotation_axis: "x", "y" or "z", about which the cloud is turned by any angle; None for no turn. Features of
            points, normals among them, are not turned.
        jitter_std: of Gaussian noise on coordinates, in units of the largest distance from the mean along an axis.
        point_dropout: largest share of points that are hidden, in [0, 1): the share of a cloud is drawn up to it, and
            then which points are. One is left at least.

    Returns:
        Function `(example, (2,) int32 seed) -> example` of `{"points": (M, 3 + e) float32, "points_padding_mask": (M,)
        bool}`.
    """
    require_between(0, 1, scale_range=scale_range, point_dropout=point_dropout)
    require_between(0, float("inf"), jitter_std=jitter_std)
    steps = []  # each with its own offset, so that no two draw the same numbers
    if scale_range:
        steps.append((0, lambda xyz, mask, seed: scale_points(xyz, seed, scale_range)))
    if rotation_axis is not None:
        require_one_of(AXES, rotation_axis=rotation_axis)
        steps.append((1, lambda xyz, mask, seed: rotate_points(xyz, seed, AXES.index(rotation_axis))))
    if jitter_std:
        steps.append((2, lambda xyz, mask, seed: jitter_points(xyz, mask, seed, jitter_std)))

    def augment(example, seed):
        xyz, features = example["points"][:, :3], example["points"][:, 3:]
        mask = example["points_padding_mask"]
        for offset, step in steps:
            xyz = step(xyz, mask, tf.add(seed, [offset, 0]))
        if point_dropout:
            mask = drop_points(mask, tf.add(seed, [3, 0]), point_dropout)
        return {"points": tf.concat([xyz, features], axis=-1), "points_padding_mask": mask}

    return augment


def scale_points(xyz, seed, scale_range):
    """Multiplies each point (M, 3) by a factor of its own, uniform in [1 - s, 1 + s]."""
    return xyz * tf.random.stateless_uniform((tf.shape(xyz)[0], 1), seed, 1 - scale_range, 1 + scale_range)


def rotate_points(xyz, seed, axis):
    """Turns a cloud (M, 3) about one axis (0, 1 or 2), by an angle uniform in [0, 2π)."""
    angle = tf.random.stateless_uniform((), seed, 0, 2 * math.pi)
    cos, sin = tf.cos(angle), tf.sin(angle)
    columns = list(tf.unstack(xyz, axis=-1))
    first, second = columns[axis - 2], columns[axis - 1]  # the two axes that follow, in the order of the right hand
    columns[axis - 2], columns[axis - 1] = cos * first - sin * second, sin * first + cos * second
    return tf.stack(columns, axis=-1)


def jitter_points(xyz, mask, seed, std):
    """Moves each point (M, 3) by Gaussian noise; real points alone say how large the cloud is."""
    scale = tf.reduce_max(tf.abs(tf.where(mask[:, None], xyz, 0.0)))
    return xyz + std * scale * tf.random.stateless_normal(tf.shape(xyz), seed)


def drop_points(mask, seed, most):
    """Takes away a share of the points of a mask (M,) bool, uniform in [0, most); all of them are never taken."""
    numbers = tf.random.stateless_uniform((tf.shape(mask)[0] + 1,), seed)
    kept = mask & (numbers[1:] >= most * numbers[0])
    return tf.where(tf.reduce_any(kept), kept, mask)
