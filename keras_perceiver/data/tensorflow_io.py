"""The only module that imports tensorflow-io, which is no longer maintained.

What it computes in plain TensorFlow works wherever the package can be imported; where it cannot, an equal few lines of
TensorFlow do the same. Its native decoders load up to TensorFlow 2.17: an op is called once to find out.

Its masks of spectrograms keep a random state, which would make a run depend on its threads: `spec_augment` hides the
same stretches, drawn from the seed of the example.
"""

import functools
import os
import warnings

import numpy as np
import tensorflow as tf

NATIVE_EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3")  # of files that the native decoders read
# A WAV file of one channel, 8 kHz and the 16-bit samples 1 and -2.
TINY_WAV = b"RIFF(\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0\x80>\0\0\2\0\x10\0data\4\0\0\0\1\0\xfe\xff"


@functools.cache
def package():
    """The package, or None where it cannot be imported. It warns of parts that do not load and are not used here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorflow_io
    except ImportError:  # there is none for Windows and for Python 3.13
        return None
    return tensorflow_io


@functools.cache
def has_native_decoders():
    """Whether the native decoders load.

    A library with the symbols of another TensorFlow is what the package's loader calls not implemented; whatever else
    goes wrong is a defect, and is raised.
    """
    if package() is None:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            package().audio.decode_wav(TINY_WAV, dtype=tf.int16)
    except NotImplementedError:
        return False
    return True


def decode_natively(path, seconds):
    """The first `seconds` of a sound file.

    Args:
        path: of a regular file.
        seconds: how much is decoded at most.

    Returns:
        `((S, channels), samples a second)`: uint8, int16 or int32 with their full scale, or float32; None where the
        native decoders do not load, or cannot read the file.
    """
    extension = os.path.splitext(path)[1].lower()
    if extension not in NATIVE_EXTENSIONS or not has_native_decoders():
        return None
    try:
        with tf.device("CPU"):
            sound = package().audio.AudioIOTensor(os.fspath(path))
            rate, length = int(sound.rate), int(sound.shape[0])
            samples = sound[: min(length, int(np.ceil(seconds * rate)))].numpy()
    except (tf.errors.OpError, ValueError):
        return None
    # Of WAV files those decoders take whole numbers of 32 bits for floating-point numbers.
    is_doubtful = extension == ".wav" and samples.dtype == np.float32
    return None if is_doubtful or not len(samples) else (samples, rate)


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


def trim(samples, threshold):
    """(B, S) float32 -> (B, 2) int64: where the first sample above `threshold` stands, and behind the last one; (S, S)
    where there is none."""
    loudness = tf.abs(samples)
    if package() is not None:
        return package().audio.trim(loudness, axis=1, epsilon=threshold)
    is_loud = tf.cast(loudness > threshold, tf.int8)
    length, is_any = tf.shape(samples, tf.int64)[1], tf.reduce_any(loudness > threshold, axis=1)
    start = tf.where(is_any, tf.argmax(is_loud, axis=1), length)
    return tf.stack([start, length - tf.where(is_any, tf.argmax(tf.reverse(is_loud, [1]), axis=1), 0)], axis=1)


def fade(samples, fade_in, fade_out):
    """(S,) float32 that become louder over the first `fade_in` samples and quieter over the last `fade_out`, linearly.

    Both are at least 1. The first sample becomes 0, and so does the last where `fade_out` is more.
    """
    if package() is not None:
        return package().audio.fade(samples, fade_in, fade_out, "linear")
    length = tf.shape(samples)[0]
    louder = tf.concat([tf.linspace(0.0, 1.0, fade_in), tf.ones([length - fade_in])], 0)
    quieter = tf.concat([tf.ones([length - fade_out]), 1.0 - tf.linspace(0.0, 1.0, fade_out)], 0)
    return louder * quieter * samples
