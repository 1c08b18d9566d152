"""Audio: reading sound files, and windows of them.

One reader serves training, `inspect` and `predict`: PyAV, which carries FFmpeg, or the native decoders of tensorflow-io
where they load. Sounds are mixed down to one channel, resampled to one rate, and kept as 16-bit samples with their
number, so that examples of any length lie in one array.
"""

import hashlib
import io
import math

import av
import numpy as np
import tensorflow as tf

from keras_perceiver._checks import InputError, require
from keras_perceiver.data import films
from keras_perceiver.data.files import name_of, open_regular
from keras_perceiver.data.reports import say
from keras_perceiver.data.tensorflow_io import decode_natively

EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3", ".aac", ".m4a")
READERS = ("wav", "flac", "ogg", "mp3", "aac", "mov")  # of FFmpeg; no other is tried: some open what a file names
FILM_READERS = ("mov", "avi", "matroska", "mpeg")  # of those, for the sound of films

MAX_SECONDS = 60.0  # are read of a file; what comes after is left out, and said
MIN_RATE, MAX_RATE = 1_000, 768_000  # samples a second that a file may have
MAX_CHANNELS = 64
MAX_FRAME_SAMPLES = 2**27  # of one frame: films may hold hours of sound in one piece
MAX_FRAMES = 2**17  # that are decoded of a file, each with a cost of its own: a minute has 3,000 as a rule
NATIVE_RATE = 48_000  # files that all have one rate, up to this one, are not resampled
DEFAULT_RATE = 16_000  # others are
MAX_CLIP_SECONDS = 10.0  # of a window that is chosen by the data
QUANTILE = 0.95  # of the durations: the window that is chosen holds so many files whole
MAX_TIMES = 4  # as much is kept of a file at most: a far longer one would make all examples as long as itself
FRAMES_MULTIPLE = 16  # frames of a window: patches of up to so many frames divide it
FILTER = 64  # samples, at the lower of two rates: more than the filter of FFmpeg's resampler is wide
MAX_DELAY = 60.0  # seconds that the sound of a film may begin before its first frame
MAX_GAP = 0.05  # seconds: times of blocks are rounded, and smaller gaps are none
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


def decode_audio(file, rate, seconds, *, is_film=None, origin=None):
    """The first `seconds` of a sound: `((S,) float32 in [-1, 1], its samples a second, whether it broke off)`.

    A file that cannot be decoded to its end, or whose rate changes, broke off. Whatever goes wrong inside a decoder,
    which is fed by strangers, is an `InputError` that names the file.

    Args:
        file: path, or bytes.
        rate: samples a second; None to leave them as they are.
        seconds: how much is decoded at most.
        is_film: whether it is a film; None to take it from the path.
        origin: where the sound begins, in seconds of the film's own clock, whose times then say where samples stand:
            what is missing is silence. None to take them one after the other, from the first one on.
    """
    if is_film is None:
        is_film = not isinstance(file, bytes) and str(file).lower().endswith(films.WITH_SOUND)
    try:
        opened = io.BytesIO(file) if isinstance(file, bytes) else open_regular(file, films.MAX_FILE_BYTES)
        with opened as stream:
            native = None if isinstance(file, bytes) or is_film else decode_natively(file, seconds)
            if native is None:
                blocks, broken_off = _with_ffmpeg(stream, rate, seconds, FILM_READERS if is_film else READERS, origin)
            else:
                samples, own = native
                blocks, broken_off = [(average(samples.T), _checked_rate(own))], False
                blocks = blocks if rate is None else list(at_rate(blocks, rate))
        samples = np.concatenate([block for block, _ in blocks] or [[]])
        if not len(samples):
            raise ValueError("It holds no samples.")
        return np.clip(samples, -1.0, 1.0)[: math.ceil(seconds * blocks[0][1])], blocks[0][1], broken_off
    except InputError:
        raise
    except Exception as error:  # FFmpeg has an error for everything
        what = "film with sound (MP4, AVI, MPG, WebM or MKV)" if is_film else "sound (WAV, FLAC, OGG, MP3, AAC or M4A)"
        raise InputError(
            f"{name_of(file, 'sound')} must be a readable {what}. {str(error) or type(error).__name__}"
        ) from error


def _with_ffmpeg(stream, rate, seconds, formats, origin):
    """`(blocks, whether it broke off)` of a file, decoded by PyAV."""
    options, errors = {"format_whitelist": ",".join(formats)}, []
    with av.open(stream, metadata_errors="ignore", options=options) as container:
        blocks = _blocks(container, seconds, errors, origin)
        return list(blocks if rate is None else at_rate(blocks, rate)), bool(errors)


def _blocks(container, seconds, errors, origin):
    """Yields decoded blocks, (samples of one channel, their rate), until there are enough."""
    if not container.streams.audio:
        raise ValueError("It holds no sound.")
    total, rate = 0, None
    for number, (frame, count) in enumerate(_frames(container, errors)):
        if number == MAX_FRAMES:
            raise ValueError(f"It has more than {MAX_FRAMES:,} frames in the first {seconds:g} s.")
        rate = rate or _checked_rate(frame.sample_rate)
        if frame.sample_rate != rate:
            errors.append(ValueError("Its rate changes."))
            break
        wanted = math.ceil((seconds + MAX_DELAY) * rate) - total  # a frame may hold hours
        samples = mono(frame, min(count, wanted))
        if origin is not None and not (total and container.format.name == "avi"):  # which has no times of its own
            samples = _placed(samples, frame, total, rate, origin, math.ceil(seconds * rate))
        if len(samples):
            yield samples, rate
        total += len(samples)
        if total >= seconds * rate:
            break
    if rate and not total:  # all of it is heard before the film begins
        yield np.zeros(1, np.float32), rate


def _placed(samples, frame, total, rate, origin, most):
    """The samples of a frame as they follow `total` others, of at most so many: behind silence, where their time says
    that something is missing, and without what lies before the origin."""
    if frame.pts is None:
        return samples
    gap = round((float(frame.pts * frame.time_base) - origin) * rate) - total
    if total == 0 and gap < 0:
        if gap < -MAX_DELAY * rate:
            raise ValueError(f"Its sound begins more than {MAX_DELAY:g} s before its first frame.")
        return samples[-gap:]
    if total and gap < MAX_GAP * rate:
        return samples
    return np.concatenate([np.zeros(min(gap, most - total), np.float32), samples])


def _checked_rate(rate):
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ValueError(f"It has {rate:,} samples a second; {MIN_RATE:,} to {MAX_RATE:,} can be read.")
    return rate


def at_rate(blocks, rate):
    """Yields blocks, (samples, their rate), at another rate; they are left as they are where they have it already."""
    resampler, total, made, own = None, 0, 0, rate
    for block, own in blocks:
        if total == 0 and own != rate:
            resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
        total += len(block)
        if resampler is None:
            yield block, own
            continue
        for resampled in _resampled(resampler, block, own):
            made += len(resampled)
            yield resampled, rate
    if resampler is not None and total:
        # Of less than its filter is wide the resampler makes nothing: silence behind the end moves the end out of it.
        silence = np.zeros(math.ceil(FILTER * max(1, own / rate)), np.float32)
        rest = [*_resampled(resampler, silence, own), *_resampled(resampler, None, own)]
        yield np.concatenate(rest)[: max(0, math.ceil(total * rate / own) - made)], rate


def _frames(container, errors):
    """Decoded frames, and how many samples of each are heard; what a broken file ends with is left out where something
    came before, and its error kept."""
    any_frame, stream = False, container.streams.audio[0]
    if stream.codec_context is not None:
        stream.codec_context.options = {"max_samples": str(MAX_FRAME_SAMPLES)}
    is_vorbis = container.format.name == "ogg" and stream.codec_context.name == "vorbis"
    try:
        for frame, count in _vorbis(container, stream) if is_vorbis else _whole(container.decode(stream)):
            if count > 0:
                any_frame = True
                yield frame, count
    except av.error.FFmpegError as error:
        if not any_frame:
            raise
        errors.append(error)


def _whole(frames):
    return ((frame, frame.samples) for frame in frames)


def _vorbis(container, stream):
    """As `_frames`, of Vorbis in OGG, cut as FFmpeg cuts it but for its mistake.

    Of the block that a stream begins with nothing is heard. Where it is a short one, FFmpeg counts it, gives all blocks
    times that are late by it, and by those cuts as much too early at the end.
    """
    stream.codec_context.flags2 |= av.codec.context.Flags2.skip_manual
    begun, late = False, 0
    for packet in container.demux(stream):
        skipped = packet.get_sidedata("skip_samples") if packet.has_sidedata("skip_samples") else None
        cut = 0 if skipped is None else int.from_bytes(bytes(skipped)[4:8], "little")
        for frame in packet.decode():
            if begun:
                yield frame, frame.samples - max(0, cut - late)
            elif frame.pts == 0:
                late = frame.samples
            begun = True


def resample(samples, own, rate):
    """(S,) float32 at `own` samples a second -> at `rate`."""
    return np.concatenate([block for block, _ in at_rate([(samples, own)], rate)])


def _resampled(resampler, block, own):
    """Yields what the resampler makes of a block; None makes it give all that it holds."""
    frame = None
    if block is not None:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block[None]), format="fltp", layout="mono")
        frame.sample_rate = own
    for out in resampler.resample(frame):
        yield out.to_ndarray()[0]


def mono(frame, most):
    """The first samples of a frame of any sample format as the mean of its channels: (S,) float32 in [-1, 1]."""
    values, channels = frame.to_ndarray(), frame.layout.nb_channels
    return average(values[:, :most] if frame.format.is_planar else values.reshape(-1, channels)[:most].T)


def average(values):
    """(channels, S) samples of any dtype, whole numbers by their full scale -> (S,) float32 in [-1, 1], their mean.

    Raises:
        ValueError: where there are more than `MAX_CHANNELS`, or a number is not finite.
    """
    if len(values) > MAX_CHANNELS:
        raise ValueError(f"It has {len(values):,} channels; it may have at most {MAX_CHANNELS}.")
    if values.dtype == np.uint8:
        values = (values.astype(np.float64) - 128) / 128
    elif values.dtype.kind == "i":
        values = values / -float(np.iinfo(values.dtype).min)
    elif not np.isfinite(values).all():
        raise ValueError("Some of its samples are not finite.")
    # Lossy formats decode to a little more than the full scale, which is cut off channel by channel.
    return np.clip(values, -1.0, 1.0).mean(axis=0).astype(np.float32)
