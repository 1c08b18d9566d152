"""Video: reading clips of films, and what every model of video needs in front of it.

PyAV, which carries FFmpeg, decodes. A clip is T frames at a given rate, each as it is seen at its moment, as uint8
pixels (T, H, W, 3). A film that ends before its clip stays at its last frame.
"""

import hashlib
import io
import math
import re
from contextlib import contextmanager

import av
import numpy as np

from keras_perceiver._checks import InputError, require, require_above, require_positive
from keras_perceiver.data.drawing import highlighted
from keras_perceiver.data.files import open_regular
from keras_perceiver.data.images import normalize_pixels

EXTENSIONS = (".mp4", ".m4v", ".mov", ".avi", ".mpg", ".mpeg", ".webm", ".mkv", ".gif")

MAX_FILE_BYTES = 2**32  # 4 GiB, of which only what is needed is read
MAX_PIXELS = 2**25  # of a frame, as of pictures
MAX_DECODED = 2**34  # pixels that are decoded for one clip: 8,000 frames of 1920 x 1080
MIN_DECODED = 2**16  # pixels that a frame counts for at least
MAX_DELAY = 60.0  # seconds that the sound of a film may begin before or behind its first frame
SCAN_FRAMES = 32  # that are decoded to examine a film

DEFAULT_FRAMES = 16
DEFAULT_RATE = 25  # frames per second of films without times
NATIVE_SIZE = 64  # films that all have one size, up to this many pixels each way, enter the model as they are
DEFAULT_SIZE = 64  # frames of others are resized to this many pixels each way

# FFmpeg's demuxers, by content and not by name. Others are not tried: some open what a file names.
FORMATS = {
    rb".{4}(?:ftyp|moov|mdat|wide|free|skip)": "mov",
    rb"RIFF.{4}AVI ": "avi",
    rb"\x1aE\xdf\xa3": "matroska",  # WebM too
    rb"\x00\x00\x01\xba": "mpeg",
    rb"\x00\x00\x01\xb3": "mpegvideo",
    rb"GIF8[79]a": "gif",
}


def read_video(file, shape, *, frame_rate=None, start_time=0.0):
    """Reads a clip of a film.

    Frame i of the clip is what is seen at `start_time + i / frame_rate`. Frames are resized by area averaging.

    Args:
        file: path of an MP4, AVI, MPG, WebM, MKV or GIF file, or its bytes.
        shape: (T, H, W, 3).
        frame_rate: frames per second of the clip; None to spread its T frames evenly over the whole film.
        start_time: seconds from the first frame of the film to that of the clip, at least 0.

    Returns:
        (T, H, W, 3) uint8.

    Raises:
        InputError: where the file is missing, is no film that can be decoded, or is larger than `MAX_FILE_BYTES`, one
            of its frames than `MAX_PIXELS`, or what must be decoded for the clip than `MAX_DECODED`.
    """
    num_frames, height, width, channels = shape
    require(channels == 3, "A model of video must have 3 channels", shape=tuple(shape))
    require(math.isfinite(start_time) and start_time >= 0, "`start_time` must be at least 0 s", start_time=start_time)
    if frame_rate is None:
        frame_rate = num_frames / max(length_of(file)[1], 1e-3)
    require_above(0, frame_rate=frame_rate)
    with _opened(file) as (container, stream):
        clip, held, i = np.empty(tuple(shape), np.uint8), None, 0
        for time, frame in _frames(container, stream, start_time, []):
            while i < num_frames and held is not None and start_time + i / frame_rate < time - 1e-6:
                clip[i] = _pixels(held, height, width)
                i += 1
            held = frame
            if i == num_frames:
                break
        if i < num_frames:
            clip[i:] = _pixels(held, height, width)
    return clip


def scan_video(file):
    """Goes through a film once, decodes its first frames and says what is in it: facts that JSON can hold.

    Returns:
        `{"size": [H, W], "frames": int, "seconds": float, "has_sound": bool, "is_broken_off": bool, "low": int,
        "high": int, "hash": str}`: the number of coded frames and the time from the first to the end of the last,
        whatever the header says; whether the file cannot be read to its end, or ends before its header says; range and
        hash of the first `SCAN_FRAMES` frames.

    Raises:
        InputError: as `read_video`.
    """
    frames, seconds, broken_off = length_of(file)
    digest, low, high, size = hashlib.blake2b(repr((frames, seconds)).encode(), digest_size=16), 255, 0, None
    with _opened(file) as (container, stream):
        errors, has_sound = [], bool(container.streams.audio)
        for number, (_, frame) in enumerate(_frames(container, stream, 0.0, errors)):
            size = size or [frame.height, frame.width][:: -1 if quarter_turns(frame) % 2 else 1]
            pixels = _pixels(frame, *size)
            digest.update(pixels)
            low, high = min(low, int(pixels.min())), max(high, int(pixels.max()))
            if number + 1 == SCAN_FRAMES:
                break
    return {
        "size": size,
        "frames": frames,
        "seconds": seconds,
        "has_sound": has_sound,
        "is_broken_off": broken_off or bool(errors),
        "low": low,
        "high": high,
        "hash": digest.hexdigest(),
    }


def choose_video_shape(facts, frame_size=None, num_frames=None):
    """The (T, H, W, 3) that clips enter a model with.

    Args:
        facts: of every film, see `scan_video`.
        frame_size: H = W, or (H, W); None for the films' own size where all have the same one of at most `NATIVE_SIZE`
            pixels each way, and `DEFAULT_SIZE` otherwise.
        num_frames: T; None for `DEFAULT_FRAMES`.
    """
    if frame_size is None:
        sizes = {tuple(fact["size"]) for fact in facts}
        native = len(sizes) == 1 and max(next(iter(sizes))) <= NATIVE_SIZE
        frame_size = next(iter(sizes)) if native else DEFAULT_SIZE
    height, width = frame_size if isinstance(frame_size, (list, tuple)) else (frame_size, frame_size)
    num_frames = DEFAULT_FRAMES if num_frames is None else num_frames
    require_positive(num_frames=num_frames)
    require_positive(frame_size=height)
    require_positive(frame_size=width)
    require(
        height * width <= MAX_PIXELS, f"`frame_size` must give at most {MAX_PIXELS:,} pixels", frame_size=frame_size
    )
    return (num_frames, height, width, 3)


def video_notes(facts):
    """What is to be said of a data set beside its problems."""
    heard = sum(fact["has_sound"] for fact in facts)
    return [f"{heard:,} films have sound, which `--modality audio_video` uses too"] if heard else []


def preprocess_video():
    """What stands between raw pixels and the model: `(.., T, H, W, 3) in [0, 255] -> float32 in [-1, 1]`."""
    return normalize_pixels


def draw_video(axes, clip, weights=None):
    """Draws frames of a clip as it enters a model, evenly spread in time, in two rows, with white between them.

    With `weights` of its bytes, (t, h, w), they are grey, and those of each frame are laid over it.
    """
    pixels = np.clip(np.asarray(clip) / 2 + 0.5, 0, 1)
    if weights is None:
        axes.imshow(_two_rows(pixels))
        return
    axes.imshow(_two_rows(pixels.mean(axis=-1, keepdims=True))[..., 0], cmap="gray", vmin=0, vmax=1)
    axes.imshow(_two_rows(highlighted(weights, pixels.shape[:3])))


def _two_rows(clip, num_frames=4):
    """(T, H, W, c) -> (2H + 2, W · frames / 2 + .., c), some of the frames side by side."""
    clip = np.pad(clip, [(0, 0), (0, 1), (0, 1), (0, 0)], constant_values=1)
    chosen = clip[np.linspace(0, len(clip) - 1, num_frames).round().astype(int)]
    top, bottom = np.split(np.concatenate(chosen, axis=1), 2, axis=1)
    return np.concatenate([top, bottom])


@contextmanager
def _opened(file):
    """`(container, video stream)` of a film; whatever goes wrong inside a decoder is an `InputError` that names it."""
    name = "the film" if isinstance(file, bytes) else f"`{file}`"
    try:
        with io.BytesIO(file) if isinstance(file, bytes) else open_regular(file, MAX_FILE_BYTES) as source:
            start = source.read(16)
            source.seek(0)
            kinds = [kind for magic, kind in FORMATS.items() if re.match(magic, start, re.DOTALL)]
            if not kinds:
                raise ValueError("It begins as none of these formats does." if start else "It is empty.")
            with av.open(source, format=kinds[0], metadata_errors="replace") as container:
                if not container.streams.video:
                    raise ValueError("It has no video stream.")
                stream = container.streams.video[0]
                context = stream.codec_context
                if context is None:
                    raise ValueError("Its codec is not known.")
                context.thread_count = 1  # films are read in parallel
                context.options = {"max_pixels": str(MAX_PIXELS)}
                _check_size(context.width, context.height)
                yield container, stream
    except InputError:
        raise
    except Exception as error:  # decoders raise nearly everything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"{name} must be a readable film (MP4, AVI, MPG, WebM, MKV or GIF). {reason}") from error


def _check_size(width, height):
    if width * height > MAX_PIXELS:
        raise ValueError(f"It has frames of {width:,} x {height:,} pixels; they may have at most {MAX_PIXELS:,}.")


def _frames(container, stream, start_time, errors):
    """Yields `(seconds from the first frame, frame)` in order, from the last frame at `start_time` or an earlier one.

    A film whose rest cannot be decoded ends there, its error kept in the list; one without any frame is a ValueError.
    """
    origin = _origin(container, stream)
    if start_time:
        container.seek(int((origin + start_time) / stream.time_base), stream=stream)
    decoded, number, rate = 0, 0, float(stream.average_rate or DEFAULT_RATE)
    try:
        for frame in container.decode(stream):
            _check_size(frame.width, frame.height)
            decoded += max(frame.width * frame.height, MIN_DECODED)
            if decoded > MAX_DECODED:
                raise ValueError(f"More than {MAX_DECODED:,} pixels would have to be decoded.")
            yield (number / rate if frame.pts is None else float(frame.pts * stream.time_base - origin)), frame
            number += 1
    except av.FFmpegError as error:
        if not number:
            raise
        errors.append(error)
    if not number:
        raise ValueError("It has no frames that can be decoded.")


def _origin(container, stream):
    """The time of the first frame, in seconds."""
    return (stream.start_time or 0) * stream.time_base


def length_of(file):
    """`(frames, seconds, whether it broke off)`: counted, as headers may be wrong; nothing is decoded."""
    with _opened(file) as (container, stream):
        first, last, count, broken_off = None, -math.inf, 0, False
        try:
            for packet in container.demux(stream):
                if packet.pts is None or not packet.size:
                    count += bool(packet.size)
                    continue
                count += 1
                first = packet.pts if first is None else min(first, packet.pts)
                last = max(last, packet.pts + (packet.duration or 0))
        except av.FFmpegError:
            broken_off = True
        if not count:
            raise ValueError("It has no frames.")
        rate = float(stream.average_rate or DEFAULT_RATE)
        seconds = count / rate if first is None else float((last - first) * stream.time_base)
        promised = (container.duration or 0) / av.time_base
        return count, seconds, broken_off or promised > 1.05 * seconds + 2 / rate


def sound_delay(file):
    """Seconds from the first frame of a film to the first sample of its sound, at most a minute either way.

    Raises:
        InputError: as `read_video`, and where there is no sound.
    """
    with _opened(file) as (container, stream):
        if not container.streams.audio:
            raise ValueError("It has no sound.")
        sound = container.streams.audio[0]
        delay = float((sound.start_time or 0) * sound.time_base - _origin(container, stream))
        return min(max(delay, -MAX_DELAY), MAX_DELAY)


def _pixels(frame, height, width):
    """A frame of PyAV -> (H, W, 3) uint8, turned as the film says that it is looked at, as films of telephones do."""
    turns = quarter_turns(frame)
    width, height = (height, width) if turns % 2 else (width, height)
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA")
    return np.ascontiguousarray(np.rot90(pixels, turns))  # PyAV pads the rows of some widths


def quarter_turns(frame):
    """How many quarters of a turn a frame is turned against the clock before it is looked at."""
    return round(frame.rotation / 90) % 4
