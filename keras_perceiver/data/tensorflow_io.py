"""The only module that imports tensorflow-io, which is no longer maintained.

What it computes in plain TensorFlow works wherever the package can be imported; where it cannot, an equal few lines of
`tf.signal` do the same. Its native decoders, which load up to TensorFlow 2.17, are not used.
"""

import functools
import warnings

import tensorflow as tf


@functools.cache
def package():
    """The package, or None where it cannot be imported. It warns of parts that do not load and are not used here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorflow_io
    except Exception:  # no such package; or one that does not fit to this TensorFlow, which may raise anything
        return None
    return tensorflow_io


def spectrogram(samples, fft_length, frame_length, frame_step):
    """(.., S) float32 -> (.., ceil(S / frame_step), fft_length / 2 + 1): magnitudes of frames under a Hann window."""
    if package() is not None:
        return package().audio.spectrogram(samples, fft_length, frame_length, frame_step)
    frames = tf.signal.stft(samples, frame_length, frame_step, fft_length, pad_end=True)
    return tf.abs(frames)


def mel_scale(magnitudes, sample_rate, num_bins, low, high):
    """(.., frequencies) -> (.., num_bins) on the mel scale from `low` to `high` hertz."""
    if package() is not None:
        return package().audio.melscale(magnitudes, sample_rate, num_bins, low, high)
    matrix = tf.signal.linear_to_mel_weight_matrix(num_bins, magnitudes.shape[-1], sample_rate, low, high)
    return tf.tensordot(magnitudes, matrix, 1)
