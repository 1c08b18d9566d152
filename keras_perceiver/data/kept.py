"""Examples as they enter a model, made once and kept where every epoch would make the same."""

import math

import numpy as np
import tensorflow as tf

from keras_perceiver.data.examples import Lazy, in_parallel

CACHE_BYTES = 2**31  # 2 GiB of a split are made once and kept; larger ones are made every epoch


def is_decoded_once(examples):
    """Whether the examples of a split are kept as they are decoded."""
    return not isinstance(examples, Lazy) or examples.nbytes <= CACHE_BYTES


def kept_inputs(make, count, examples, console=None):
    """What `make` returns, kept.

    Args:
        make: function of a scalar int32 tensor in [0, count) -> `{input: tensor of a static shape}`.
        count: how many there are.
        examples: those of the split, which may be kept beside it, see `is_decoded_once`.
        console: `rich.console.Console` for the progress; None for none.

    Returns:
        `{input: (count, ..) tensor}`; None where all that is kept would take more than `CACHE_BYTES`, or there is none.
    """
    made = tf.function(make, autograph=False)
    specs = made.get_concrete_function(tf.TensorSpec((), tf.int32)).structured_outputs
    each = sum(math.prod(spec.shape) * spec.dtype.size for spec in specs.values())
    beside = examples.nbytes if is_decoded_once(examples) else 0
    if not count or count * each + beside > CACHE_BYTES:
        return None
    kept = {name: np.empty((count, *spec.shape), spec.dtype.as_numpy_dtype) for name, spec in specs.items()}

    def fill(place):
        with tf.device("CPU:0"):
            for name, value in made(tf.constant(place, tf.int32)).items():
                kept[name][place] = value

    for _ in in_parallel(fill, range(count), "preparing", console):
        pass
    with tf.device("CPU:0"):
        return {name: tf.constant(kept.pop(name)) for name in specs}
