"""Films as files: what is in one, and the frames that are seen at given moments.

PyAV, which carries FFmpeg, decodes. The packets of a film are gone through twice: once to count them, as headers may be
wrong, and once to decode those that are needed. Where it is known at which frames decoding may begin, these are those
from the key frame before a moment to the moment: time and memory are bounded by the number of moments and the distance
of key frames.
"""

import bisect
import io
import math
import re
from array import array
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import av
import numpy as np

from keras_perceiver._checks import InputError
from keras_perceiver.data.files import name_of, open_regular

EXTENSIONS = (".mp4", ".m4v", ".mov", ".avi", ".mpg", ".mpeg", ".webm", ".mkv", ".gif")
WITH_SOUND = tuple(extension for extension in EXTENSIONS if extension != ".gif")

MAX_FILE_BYTES = 2**32  # 4 GiB, also of sounds; only what is needed is decoded
MAX_PACKETS = 2**23  # of frames and of sound: some 25 hours
MAX_PIXELS = 2**25  # of a frame, as of pictures
MAX_DECODED = 2**34  # pixels from one key frame to the next: 8,000 frames of 1920 x 1080
MIN_DECODED = 2**16  # pixels that a frame counts for at least
DEFAULT_RATE = 25  # frames per second of films without times
SLACK = 1e-6  # seconds: moments are sums of floating-point numbers

# FFmpeg's demuxers, by content and not by name. Others are not tried: some open what a file names.
FORMATS = {
    rb".{4}(?:ftyp|moov|mdat|wide|free|skip)": "mov",
    rb"RIFF.{4}AVI ": "avi",
    rb"\x1aE\xdf\xa3": "matroska",  # WebM too
    rb"\x00\x00\x01\xba": "mpeg",
    rb"\x00\x00\x01\xb3": "mpegvideo",
    rb"GIF8[79]a": "gif",
}
WITH_KEYS = ("mov", "avi", "matroska")  # of them, those that say where decoding may begin


class EntryError(InputError):
    """Decoding did not begin at a key frame, as the film says that it may."""


@dataclass(frozen=True)
class Contents:
    """What the packets of a film say of it.

    Attributes:
        frames: how many are coded.
        seconds: from the first to the end of the last.
        is_broken_off: whether the file cannot be read to its end, or ends before its header says.
        pixels: of all frames, each of which counts for at least `MIN_DECODED`.
        first: time of the first frame, in units of `time_base`; None where times are reckoned by counting frames.
        time_base: seconds.
        keys: times of the frames at which decoding may begin, in units of `time_base` and in ascending order; none
            where this is not known.
    """

    frames: int
    seconds: float
    is_broken_off: bool
    pixels: int
    first: int | None
    time_base: float
    keys: Sequence[int]

    def entry(self, moment):
        """The last of `keys` at a moment or before it, in seconds from the first frame; None for none."""
        place = bisect.bisect_right(self.keys, moment + SLACK, key=self.seconds_of)
        return self.keys[place - 1] if place else None

    @property
    def start(self):
        """Time of the first frame, in seconds."""
        return (self.first or 0) * self.time_base

    def seconds_of(self, time):
        """Seconds from the first frame to a time in units of `time_base`."""
        return (time - self.first) * self.time_base


@contextmanager
def opened(file, *, with_sound=False):
    """`(container, video stream)` of a film; whatever goes wrong inside a decoder is an `InputError` that names it."""
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
                if with_sound and not container.streams.audio:
                    raise ValueError("It has no sound.")
                context.thread_count = 1  # films are read in parallel
                context.options = {"max_pixels": str(MAX_PIXELS)}
                _check_size(context.width, context.height)
                yield container, stream
    except InputError:
        raise
    except Exception as error:  # decoders raise nearly everything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = "It ends before its first frame." if isinstance(error, EOFError) else reason
        raise InputError(
            f"{name_of(file, 'film')} must be a readable film (MP4, AVI, MPG, WebM, MKV or GIF). {reason}"
        ) from error


def _check_size(width, height):
    if width * height > MAX_PIXELS:
        raise ValueError(f"It has frames of {width:,} x {height:,} pixels; they may have at most {MAX_PIXELS:,}.")


def survey(file, *, with_sound=False):
    """The `Contents` of a film, found without decoding anything.

    Raises:
        InputError: where the file is missing, is no film, has no sound where it must, or is larger than
            `MAX_FILE_BYTES`, one of its frames than `MAX_PIXELS`, what lies between two key frames than `MAX_DECODED`.
    """
    with opened(file, with_sound=with_sound) as (container, stream):
        return _survey(container, stream)


def _survey(container, stream):
    streams = (stream, *container.streams.audio)
    bases = {one.index: float(one.time_base or 0) for one in streams}
    begin, end = math.inf, 0.0  # seconds, of all these streams
    first, last, highest, keys = math.inf, -math.inf, -math.inf, array("q")
    frames, since, longest, has_times, broken_off = 0, 0, 0, True, False
    try:
        for number, packet in enumerate(container.demux(*streams)):
            if number == MAX_PACKETS:
                raise ValueError(f"It has more than {MAX_PACKETS:,} packets.")
            time, base = packet.pts, bases[packet.stream_index]
            after = None if time is None else time + (packet.duration or 0)
            if time is not None and packet.size:
                begin, end = min(begin, time * base), max(end, after * base)
            if packet.stream_index != stream.index or not packet.size:
                continue
            frames, since = frames + 1, since + 1
            has_times = has_times and time is not None
            if time is None or packet.is_discard:
                continue
            if packet.is_keyframe and time > highest:  # what comes after it is seen after what came before it
                keys.append(time)
                longest, since = max(longest, since - 1), 1
            first, highest, last = min(first, time), max(highest, time), max(last, after)
    except av.FFmpegError:
        broken_off = True
    if not frames:
        raise ValueError("It has no frames.")
    kind, rate = container.format.name.split(",")[0], float(stream.average_rate or DEFAULT_RATE)
    is_counted = first > last
    seconds = frames / rate if is_counted else (last - first) * bases[stream.index]
    if not has_times or kind not in WITH_KEYS:
        keys, longest = (), frames
    area = max(stream.codec_context.width * stream.codec_context.height, MIN_DECODED)
    _check_decoded(max(longest, since) * area)
    promised, there = (container.duration or 0) / av.time_base, max(seconds, end, end - begin)
    return Contents(
        frames=frames,
        seconds=seconds,
        is_broken_off=broken_off or promised > 1.05 * there + 2 / rate,
        pixels=frames * area,
        first=None if is_counted else first if has_times else stream.start_time or 0,
        time_base=bases[stream.index],
        keys=keys,
    )


def _check_decoded(pixels):
    if pixels > MAX_DECODED:
        raise ValueError(
            f"More than {MAX_DECODED:,} pixels would have to be decoded in one go: its key frames are too far apart, "
            "or it does not say where they are."
        )


def decoded_frames(container, stream, contents, errors, entry=lambda: None):
    """Yields `(seconds from the first frame, frame)` in order.

    A film whose rest cannot be decoded ends there, its error kept in the list; one without any frame is a ValueError.

    Args:
        container, stream, contents: see `opened` and `survey`.
        errors: list.
        entry: function that is asked before every packet for one of `contents.keys`, or None: frames that are seen
            before it may be left out.

    Raises:
        EntryError: where what is decoded does not begin at a key frame.
    """
    rate, number, decoded = float(stream.average_rate or DEFAULT_RATE), 0, 0
    reached, awaited, is_behind = -math.inf, None, False
    try:
        for packet in container.demux(stream):
            key = entry()
            if key is not None and key > reached and packet.pts != key:
                is_behind = True
                continue
            if is_behind:
                stream.codec_context.flush_buffers()
                awaited, is_behind = key, False
            if contents.keys and packet.is_keyframe and packet.pts is not None:
                reached, decoded = max(reached, packet.pts), 0
            for frame in packet.decode():
                _check_size(frame.width, frame.height)
                decoded += max(frame.width * frame.height, MIN_DECODED)
                _check_decoded(decoded / 2)  # frames may come late, or be larger than the header says
                if awaited is not None and frame.pts != awaited:
                    raise EntryError("What is decoded of a film must begin at its key frames")
                is_counted, awaited = contents.first is None or frame.pts is None, None
                time = number / rate if is_counted else contents.seconds_of(frame.pts)
                number += 1
                yield time, frame
    except av.FFmpegError as error:
        if not number:
            raise
        errors.append(error)
    if not number:
        raise ValueError("It has no frames that can be decoded.")


def pixels_of(frame, height, width):
    """A frame of PyAV -> (H, W, 3) uint8, turned as the film says that it is looked at, as films of telephones do."""
    turns = quarter_turns(frame)
    width, height = (height, width) if turns % 2 else (width, height)
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA")
    return np.ascontiguousarray(np.rot90(pixels, turns))  # PyAV pads the rows of some widths


def quarter_turns(frame):
    """How many quarters of a turn a frame is turned against the clock before it is looked at."""
    return round(frame.rotation / 90) % 4
