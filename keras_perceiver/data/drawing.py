"""Weights of the bytes of an example, laid over a drawing of it."""

import numpy as np

HIGHLIGHT = (0.91, 0.35, 0.05)  # orange: neither black, white nor grey


def highlighted(weights, sizes):
    """(*sizes, 4) RGBA: the more weight, the less can be seen through it; the largest weight hides nearly all.

    Args:
        weights: (s_1, .., s_d), those of bytes, each of which stands for a part of the example: a patch, say.
        sizes: (S_1, .., S_d) of the example.
    """
    weights = np.asarray(weights, np.float64)
    for axis, size in enumerate(sizes):
        weights = np.take(weights, np.arange(size) * weights.shape[axis] // size, axis=axis)
    opacity = 0.9 * weights / max(weights.max(), np.finfo(np.float32).tiny)
    return np.concatenate([np.broadcast_to(HIGHLIGHT, (*sizes, 3)), opacity[..., None]], axis=-1)
