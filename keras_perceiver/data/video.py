"""Video: reading clips of films, and what every model of video needs in front of it.

A clip is T frames at a given rate, each as it is seen at its moment, as uint8 pixels (T, H, W, 3). A film that ends
before its clip stays at its last frame.
"""

import dataclasses
import hashlib
import math

import numpy as np

from keras_perceiver._checks import require, require_above, require_positive
from keras_perceiver.data import films
from keras_perceiver.data.drawing import highlighted
from keras_perceiver.data.files import name_of
from keras_perceiver.data.images import normalize_pixels
from keras_perceiver.data.reports import say

SCAN_FRAMES = 32  # of a film are hashed in all their colours
SCAN_PIXELS = 2**29  # films of so many are decoded whole when they are examined: 250 frames of 1920 x 1080

DEFAULT_FRAMES = 16
NATIVE_SIZE = 64  # films that all have one size, up to this many pixels each way, enter the model as they are
MULTIPLE = 8  # pixels: patches of frames divide it
DEFAULT_SIZE = 64  # frames of others are resized to this many pixels each way


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
        InputError: as `survey`, and where the film cannot be decoded.
    """
    require(shape[-1] == 3, "A model of video must have 3 channels", shape=tuple(shape))
    require(math.isfinite(start_time) and start_time >= 0, "`start_time` must be at least 0 s", start_time=start_time)
    return read_surveyed(file, films.survey(file), shape, frame_rate=frame_rate, start_time=start_time)


def read_surveyed(file, contents, shape, *, frame_rate=None, start_time=0.0):
    """As `read_video`, of a film whose `Contents` are known."""
    if frame_rate is None:
        frame_rate = shape[0] / max(contents.seconds, 1e-3)
    require_above(0, frame_rate=frame_rate)
    moments = [start_time + i / frame_rate for i in range(shape[0])]
    try:
        return _clip(file, contents, shape, moments)
    except films.EntryError:  # of films that are refreshed bit by bit: they are decoded whole
        return _clip(file, dataclasses.replace(contents, keys=()), shape, moments)


def _clip(file, contents, shape, moments):
    """The frames that are seen at so many moments: (T, H, W, 3) uint8."""
    count, height, width, _ = shape
    clip, errors, held, i = np.empty(tuple(shape), np.uint8), [], None, 0
    entries = [contents.entry(moment) for moment in moments]

    def entry():
        return entries[i]

    with films.opened(file) as (container, stream):
        for time, frame in films.decoded_frames(container, stream, contents, errors, entry):
            while i < count and held is not None and moments[i] < time - films.SLACK:
                clip[i] = films.pixels_of(held, height, width)
                i += 1
            held = frame
            if i == count:
                break
        if i < count:
            clip[i:] = films.pixels_of(held, height, width)
    if errors and contents.pixels > SCAN_PIXELS:  # others are named by the scan
        say(f"{name_of(file, 'film')} cannot be decoded to its end, and is used up to there")
    return clip


def scan_video(file):
    """Goes through a film once and says what is in it: facts that JSON can hold.

    Returns:
        `{"size": [H, W], "frames": int, "seconds": float, "has_sound": bool, "is_broken_off": bool, "low": int,
        "high": int, "hash": str}`: the number of coded frames and the time from the first to the end of the last,
        whatever the header says; whether the file cannot be read to its end, or ends before its header says; range of
        the first `SCAN_FRAMES` frames; hash of these, and of the others' brightness. Of films of more than
        `SCAN_PIXELS` no others are decoded: what keeps later ones from being decoded is said when they are read.

    Raises:
        InputError: as `read_video`.
    """
    return scan_surveyed(file, films.survey(file))


def scan_surveyed(file, contents):
    """As `scan_video`, of a film whose `Contents` are known."""
    is_whole, low, high, size = contents.pixels <= SCAN_PIXELS, 255, 0, None
    digest = hashlib.blake2b(repr((contents.frames, contents.seconds)).encode(), digest_size=16)
    with films.opened(file) as (container, stream):
        errors, has_sound = [], bool(container.streams.audio)
        for number, (_, frame) in enumerate(films.decoded_frames(container, stream, contents, errors)):
            if number < SCAN_FRAMES:
                size = size or [frame.height, frame.width][:: -1 if films.quarter_turns(frame) % 2 else 1]
                pixels = films.pixels_of(frame, *size)
                digest.update(pixels)
                low, high = min(low, int(pixels.min())), max(high, int(pixels.max()))
            elif is_whole:
                digest.update(frame.to_ndarray(format="gray"))
            else:
                break
    return {
        "size": size,
        "frames": contents.frames,
        "seconds": contents.seconds,
        "has_sound": has_sound,
        "is_broken_off": contents.is_broken_off or bool(errors),
        "low": low,
        "high": high,
        "hash": digest.hexdigest(),
    }


def choose_video_shape(facts, frame_size=None, num_frames=None):
    """The (T, H, W, 3) that clips enter a model with.

    Args:
        facts: of every film, see `scan_video`.
        frame_size: H = W, or (H, W); None for the films' own size where all have the same one of at most `NATIVE_SIZE`
            pixels each way, made larger to multiples of `MULTIPLE`, and `DEFAULT_SIZE` otherwise.
        num_frames: T; None for `DEFAULT_FRAMES`.
    """
    if frame_size is None:
        sizes = {tuple(fact["size"]) for fact in facts}
        native = len(sizes) == 1 and max(next(iter(sizes))) <= NATIVE_SIZE
        frame_size = [MULTIPLE * math.ceil(n / MULTIPLE) for n in next(iter(sizes))] if native else DEFAULT_SIZE
    height, width = frame_size if isinstance(frame_size, (list, tuple)) else (frame_size, frame_size)
    num_frames = DEFAULT_FRAMES if num_frames is None else num_frames
    require_positive(num_frames=num_frames)
    require_positive(frame_size=height)
    require_positive(frame_size=width)
    require(
        height * width <= films.MAX_PIXELS,
        f"`frame_size` must give at most {films.MAX_PIXELS:,} pixels",
        frame_size=frame_size,
    )
    return (num_frames, height, width, 3)


def frames_of(seconds, frame_rate):
    """How many frames a film of so many seconds has at a rate."""
    return math.ceil(seconds * frame_rate - 1e-3)


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
