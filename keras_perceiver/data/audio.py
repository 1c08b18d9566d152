"""Audio: examples of sounds, and windows of them.

One reader serves training, `inspect` and `predict`, see `audio_files`. Sounds are mixed down to one channel, resampled
to one rate, and kept as 16-bit samples with their number, so that examples of any length lie in one array.
"""

import hashlib
import math

import numpy as np
import tensorflow as tf

from keras_perceiver._checks import require
from keras_perceiver.data.audio_files import MIN_RATE, decode_audio
from keras_perceiver.data.files import name_of
from keras_perceiver.data.reports import say

MAX_SECONDS = 60.0  # are read of a file; what comes after is left out, and said
NATIVE_RATE = 48_000  # files that all have one rate, up to this one, are not resampled
DEFAULT_RATE = 16_000  # others are
MAX_CLIP_SECONDS = 10.0  # of a window that is chosen by the data
QUANTILE = 0.95  # of the durations: the window that is chosen holds so many files whole
MAX_TIMES = 4  # as much is kept of a file at most: a far longer one would make all examples as long as itself
FRAMES_MULTIPLE = 16  # frames of a window: patches of up to so many frames divide it
MAX_CLIPS = 16  # windows of one file that are tested, as in the paper


def hop_of(sample_rate):
    """Samples from one frame to the next: about 10 ms, a multiple of 8."""
    return max(8, 8 * round(sample_rate / 800))


def read_audio(file, shape):
    """Reads a sound file: its first `kept` samples at the rate of the model, one channel.

    Args:
        file: path of a WAV, FLAC, OGG, MP3, AAC or M4A file, or its bytes; or path of a film that has sound.
        shape: (window, sample_rate, kept), see `choose_audio_shape`.

    Returns:
        A scalar of `audio_dtype(shape)`: `samples` (kept,) int16, zeros behind the end, and `length` int32.

    Raises:
        InputError: where the file is missing, is no sound that can be decoded, holds no samples or some that are not
            finite, or has a rate outside 1 to 768 kHz, more than 64 channels or more than 4 GiB.
    """
    _, rate, kept = shape
    samples, _, _ = decode_audio(file, rate, kept / rate)
    return pack(samples[:kept], shape)


def read_whole_audio(file, shape):
    """Reads a sound that may be longer than those of training: up to `MAX_SECONDS` of it.

    Returns:
        `(example, shape)`: as `read_audio`, and the shape in which it is kept.
    """
    window, rate, kept = shape
    most = max(kept, int(MAX_SECONDS * rate))
    samples, _, _ = decode_audio(file, rate, most / rate + 0.1)
    if len(samples) > most:
        say(f"only the first {most / rate:g} s are used of {name_of(file, 'sound')}, which is longer")
    shape = (window, rate, max(kept, min(len(samples), most)))
    return pack(samples[:most], shape), shape


def pack(samples, shape):
    """(S,) float in [-1, 1] as `read_audio` returns it."""
    example = np.zeros((), audio_dtype(shape))
    example["samples"][: len(samples)] = as_int16(samples)
    example["length"] = len(samples)
    return example


def as_int16(samples):
    """Float samples in [-1, 1] as whole numbers of 16 bits."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def audio_dtype(shape):
    """The NumPy dtype of one example."""
    return np.dtype([("samples", np.int16, (shape[2],)), ("length", np.int32)])


def scan_audio(path):
    """Decodes a sound file once and says what is in it.

    Returns:
        `{"size": [samples], "rate": int, "seconds": float, "is_cut": bool, "is_broken_off": bool,
        "low": float, "high": float, "hash": str}`
        at the rate of the file, of its first `MAX_SECONDS`.

    Raises:
        InputError: as `read_audio`.
    """
    samples, rate, broken_off = decode_audio(path, None, MAX_SECONDS + 0.1)
    kept = int(MAX_SECONDS * rate)
    return {**facts_of(samples[:kept], rate), "is_cut": len(samples) > kept, "is_broken_off": broken_off}


def facts_of(samples, rate):
    """`scan_audio`'s facts of (S,) float samples."""
    digest = hashlib.blake2b(f"{rate}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(samples, np.float32))
    return {
        "size": [len(samples)],
        "rate": rate,
        "seconds": len(samples) / rate,
        "low": round(float(samples.min()), 4),
        "high": round(float(samples.max()), 4),
        "hash": digest.hexdigest(),
    }


def choose_audio_shape(facts, sample_rate=None, clip_seconds=None):
    """What sounds enter a model as: (samples of a window, samples a second, samples that are kept of a file).

    Args:
        facts: of every file, see `scan_audio`.
        sample_rate: in hertz; None for the files' own where all have the same one of at most 48 kHz, else 16 kHz.
        clip_seconds: of a window; None for the 95th percentile of the durations, at most 10 s.

    Returns:
        Three integers; the window is a multiple of 16 frames, see `hop_of`; what is kept, see `longest_kept`.
    """
    rates = {fact["rate"] for fact in facts}
    if sample_rate is None:
        sample_rate = rates.pop() if len(rates) == 1 and max(rates) <= NATIVE_RATE else DEFAULT_RATE
    legal = isinstance(sample_rate, int) and MIN_RATE <= sample_rate <= NATIVE_RATE
    require(legal, f"`sample_rate` must be an integer from {MIN_RATE:,} to {NATIVE_RATE:,}", sample_rate=sample_rate)
    seconds = [fact["seconds"] for fact in facts]
    if clip_seconds is None:
        clip_seconds = min(float(np.quantile(seconds, QUANTILE)), MAX_CLIP_SECONDS)
    legal = isinstance(clip_seconds, (int, float)) and 0 < clip_seconds <= MAX_SECONDS
    require(legal, f"`clip_seconds` must be a number above 0, at most {MAX_SECONDS:g}", clip_seconds=clip_seconds)
    step = FRAMES_MULTIPLE * hop_of(sample_rate)
    window = step * math.ceil(clip_seconds * sample_rate / step)
    return window, sample_rate, max(window, math.ceil(longest_kept(seconds, window / sample_rate) * sample_rate))


def longest_kept(seconds, window):
    """Seconds that are kept of each file, of so many seconds each: as many as the longest has, but no more than
    `MAX_SECONDS`, or `MAX_TIMES` a window or the 95th percentile."""
    return min(max(seconds), MAX_TIMES * max(float(np.quantile(seconds, QUANTILE)), window), MAX_SECONDS)


def audio_notes(facts, shape):
    """What is to be said of a data set beside its problems."""
    _, rate, kept = shape
    return cut_notes(facts, kept / rate)


def cut_notes(facts, kept):
    """Sentences on files that are longer than so many seconds, which are kept of them."""
    count = sum(fact.get("is_cut", False) or fact["seconds"] > kept + 1e-6 for fact in facts)
    return [f"only the first {kept:.4g} s are used of {count:,} files that are longer"] if count else []


def count_clips(seconds, shape):
    """How many windows of each file are tested: int of the shape of `seconds`, the durations."""
    window, rate, kept = shape
    lengths = np.ceil(np.multiply(seconds, rate) - 1e-6)  # as files of another rate are decoded
    return windows_of(np.minimum(lengths, kept), window)


def windows_of(lengths, window):
    """How many windows cover so much, each with about half of the next, up to `MAX_CLIPS`; one where one holds all.

    Of the ten seconds of a file of AudioSet these are the paper's 16 windows of 1.28 s.
    """
    return np.where(lengths <= window, 1, np.minimum(np.ceil(2 * lengths / window), MAX_CLIPS)).astype(int)


def clip_of(example, shape, number, count):
    """Window `number` of `count` that are spread evenly over a file, from its first sample to its last; of one, the
    middle."""
    return take_window(example, shape[0], window_start(example["length"] - shape[0], number, count))


def window_start(spare, number, count):
    """Where window `number` of `count` begins, with so many places to spare: evenly spread; one in the middle."""
    share = tf.where(count > 1, tf.cast(number, tf.float32) / tf.cast(tf.maximum(count - 1, 1), tf.float32), 0.5)
    return tf.cast(tf.cast(tf.maximum(spare, 0), tf.float32) * share, tf.int32)


def random_start(spare, seed):
    """Where a random window begins, with so many places to spare."""
    return tf.random.stateless_uniform((), seed, 0, tf.maximum(spare, 0) + 1, tf.int32)


def take_window(example, window, start):
    """From `start` on: `samples` (window,) float32 in [-1, 1], zeros behind the end of the file, and `length`."""
    samples = tf.cast(tf.slice(example["samples"], [start], [window]), tf.float32) / 32768.0
    return {"samples": samples, "length": tf.minimum(example["length"] - start, window)}
