"""Sounds at another rate, by TensorFlow's operators: what a served model does where a file has not the model's rate."""

import math

import tensorflow as tf

# The filter of FFmpeg's resampler, which the reader of sounds uses: taps at the lower rate, share of its band that
# passes, shape of the Kaiser window.
TAPS, CUTOFF, BETA = 32, 0.97, 9.0
# Two rates with next to no common divisor need a filter of their own for every sample: 32 MiB while they are made.
MOST_WEIGHTS = 2**22
# A sound is cut into frames that overlap, tens of times as long in all: so many samples of them are made at once.
FRAME_SAMPLES = 2**22


def resample(sound, own_rate, rate):
    """(S,) float32 samples at one rate -> (ceil(S·rate/own_rate),) at another.

    A windowed sinc. Both rates are so many times their greatest common divisor, `steps` and `phases`: of `steps`
    samples that come in `phases` go out, with the same weights again and again, so that all is one product of matrices.
    In front of a sound stands its mirror image, as with FFmpeg; behind it silence.

    Args:
        sound: (S,) float32.
        own_rate: scalar int32 tensor, above 0.
        rate: int.

    Raises:
        tf.errors.InvalidArgumentError: where the weights would be more than `MOST_WEIGHTS`, as of 44,101 and 16,000.
    """
    divisor, _ = tf.while_loop(lambda a, b: b > 0, lambda a, b: (b, a % b), (tf.constant(rate), own_rate))
    steps, phases = own_rate // divisor, rate // divisor
    share = tf.minimum(CUTOFF * tf.cast(rate, tf.float64) / tf.cast(own_rate, tf.float64), 1.0)  # of the band
    half = tf.cast(tf.math.ceil(TAPS / share / 2), tf.int32)  # samples on either side of a place
    width = steps + 2 * half
    size = tf.cast(width, tf.int64) * tf.cast(phases, tf.int64)
    with tf.control_dependencies([tf.debugging.Assert(size <= MOST_WEIGHTS, ["rates with too small a divisor"])]):
        came_in = tf.range(width) - half
    goes_out = tf.range(phases) * steps  # in parts of a sample
    distance = tf.cast(came_in[:, None] * phases - goes_out, tf.float64) / tf.cast(phases, tf.float64)
    window = tf.sqrt(tf.maximum(1.0 - (distance * share * 2 / TAPS) ** 2, 0.0))
    window = tf.where(tf.abs(distance) * share * 2 <= TAPS, tf.math.bessel_i0(BETA * window), 0.0)
    weights = window * tf.experimental.numpy.sinc(share * distance)  # (width, phases)
    weights = tf.cast(weights / tf.reduce_sum(weights, axis=0), tf.float32)
    length = tf.cast(tf.math.ceil(tf.size(sound, tf.int64) * rate / tf.cast(own_rate, tf.int64)), tf.int32)
    count = tf.cast(tf.math.ceil(tf.size(sound) / steps), tf.int32)
    mirrored = sound[1 : half + 1][::-1]
    before = tf.pad(mirrored, [[half - tf.size(mirrored), 0]])
    at_once = tf.maximum(tf.minimum(count, FRAME_SAMPLES // width), 1)
    blocks = tf.cast(tf.math.ceil(count / at_once), tf.int32)
    padded = tf.pad(tf.concat([before, sound], 0), [[0, blocks * at_once * steps - tf.size(sound) + half]])

    def block(number):
        begin = number * at_once * steps
        frames = tf.signal.frame(padded[begin : begin + (at_once - 1) * steps + width], width, steps)
        return tf.reshape(frames @ weights, [-1])  # (at_once, width) @ (width, phases)

    parts = tf.map_fn(block, tf.range(blocks), fn_output_signature=tf.float32, parallel_iterations=1)
    return tf.reshape(parts, [-1])[:length]


def samples_for(count, own_rate, rate):
    """How many samples at one rate are enough for so many at another, with what the filter takes behind them."""
    ratio = tf.cast(own_rate, tf.float64) / rate
    margin = math.ceil(TAPS / CUTOFF) * tf.maximum(ratio, 1.0)
    return tf.cast(tf.math.ceil(count * ratio + margin), tf.int32)
