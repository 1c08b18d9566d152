"""Sound files -> samples of one channel.

By PyAV, which carries FFmpeg, or the native decoders of tensorflow-io where they load. Files may be anybody's: time and
memory for one are bounded.
"""

import io
import math

import av
import numpy as np

from keras_perceiver._checks import InputError
from keras_perceiver.data import films
from keras_perceiver.data.files import name_of, open_regular
from keras_perceiver.data.tensorflow_io import decode_natively

EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3", ".aac", ".m4a")
READERS = ("wav", "flac", "ogg", "mp3", "aac", "mov")  # of FFmpeg; no other is tried: some open what a file names
FILM_READERS = ("mov", "avi", "matroska", "mpeg")  # of those, for the sound of films
MIN_RATE, MAX_RATE = 1_000, 768_000  # samples a second that a file may have
MAX_CHANNELS = 64
MAX_FRAME_SAMPLES = 2**27  # of one frame: films may hold hours of sound in one piece
MAX_FRAMES = 2**17  # that are decoded of a file, each with a cost of its own: a minute has 3,000 as a rule
FILTER = 64  # samples, at the lower of two rates: more than the filter of FFmpeg's resampler is wide
MAX_DELAY = 60.0  # seconds that the sound of a film may begin before its first frame
MAX_GAP = 0.05  # seconds: times of blocks are rounded, and smaller gaps are none


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
