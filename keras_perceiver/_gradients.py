"""What the gradients that are written by hand share."""

from keras import ops


def cotangents(arguments, upstream):
    """The cotangents that a gradient function is given, a list, in whatever way Keras' backend does it."""
    found = arguments if upstream is None else upstream
    if not isinstance(found, (tuple, list)):
        return [found]
    return list(found[0] if isinstance(found[0], (tuple, list)) else found)


def after(x, cotangent):
    """`x`, but not before a cotangent is there.

    What a gradient computes again would else be computed at once, or be taken from the forward pass, by a compiler or
    by whatever runs the graph: and then be kept until it is needed, for all layers.
    """
    return x + 0 * ops.cast(ops.ravel(cotangent)[0], x.dtype)  # which no compiler may drop: it might be NaN
