"""Pure functions for positions: coordinate grids and Fourier features (paper, section 3.2).

Positions are always computed in at least float32, whatever the dtype policy: in bfloat16 they
would be off by up to 1.7, which is nearly the whole range of a sine.
"""

import math

import numpy as np
from keras import ops


def coordinates(size):
    """Positions of `size` elements along one index axis: (size,) float64 in [-1, 1].

    Both end points are included; a one-element axis sits at -1.
    """
    return np.linspace(-1.0, 1.0, size)


def frequencies(num_bands, max_resolution):
    """The Fourier frequencies f_k, evenly spaced from 1 to Nyquist: (K,) float64.

    Args:
        num_bands: K, the number of frequencies.
        max_resolution: μ, the resolution whose Nyquist frequency μ/2 is the highest of them.
    """
    return np.linspace(1.0, max_resolution / 2, num_bands)


def axis_tables(size, num_bands, max_resolution):
    """Fourier features of one index axis: `(raw (S, 1), sin (S, K), cos (S, K))`, float64.

    `sin[i, k] = sin(π f_k x_i)`, `cos[i, k] = cos(π f_k x_i)` and `raw[i] = x_i`.
    """
    x = coordinates(size)[:, None]  # (S, 1)
    angles = math.pi * x * frequencies(num_bands, max_resolution)  # (S, K)
    return x, np.sin(angles), np.cos(angles)


def broadcast_shape(length, axis, num_axes, channels):
    """Shape of a table that varies along one of `num_axes` index axes: (1, .., S_a, .., 1, E)."""
    return (1,) * axis + (length,) + (1,) * (num_axes - 1 - axis) + (channels,)


def grid_tables(sizes, num_bands, max_resolution):
    """Fourier features of a grid as broadcastable tables, in the paper's order of channels.

    The order is `[raw x_1 .. x_d | sin, axis by axis | cos, axis by axis]`.

    Args:
        sizes: (S_1, .., S_d), the lengths of the index axes.
        num_bands: K, frequencies per axis.
        max_resolution: (μ_1, .., μ_d), one per axis.

    Returns:
        List of 3d float64 arrays, table j of shape (1, .., S_a, .., 1, E_j), E_j = 1 or K.
    """
    per_axis = [axis_tables(s, num_bands, m) for s, m in zip(sizes, max_resolution, strict=True)]
    return [
        table[kind].reshape(broadcast_shape(len(table[kind]), axis, len(sizes), table[kind].shape[1]))
        for kind in range(3)
        for axis, table in enumerate(per_axis)
    ]


def point_features(points, num_bands, max_resolution):
    """Fourier features of positions that every example has for itself, such as a cloud of points.

    Args:
        points: (B, .., d) float, coordinates in [-1, 1].
        num_bands: K, frequencies per coordinate.
        max_resolution: (μ_1, .., μ_d), one per coordinate.

    Returns:
        (B, .., d(2K+1)), the dtype of `points`, in the paper's order `[raw | sin | cos]`.
    """
    angles = [
        points[..., a : a + 1] * ops.convert_to_tensor(math.pi * frequencies(num_bands, m), points.dtype)
        for a, m in enumerate(max_resolution)
    ]
    angles = ops.concatenate(angles, axis=-1)  # (B, .., dK)
    return ops.concatenate([points, ops.sin(angles), ops.cos(angles)], axis=-1)
