"""Films in windows: frames sampled at a given rate, of which a model sees some at a time.

A shape (T, H, W, 3) stands for T frames that are spread over the whole film, one of (T, H, W, 3, kept, rate) for
windows of T frames at `rate` frames a second, out of `kept` that are held of a film.
"""

import math

import numpy as np
import tensorflow as tf

from keras_perceiver._checks import require
from keras_perceiver.data import audio, films, video
from keras_perceiver.data.files import name_of
from keras_perceiver.data.reports import say
from keras_perceiver.data.video_augmentation import augment_video

MAX_FRAME_RATE = 1_000  # frames a second
MAX_KEPT_BYTES = 2**28  # 256 MiB of the frames of one film in training
MAX_WHOLE_BYTES = 2**30  # 1 GiB of the frames of one film that is asked about


def choose_film_shape(facts, frame_size=None, num_frames=None, frame_rate=None):
    """The (T, H, W, 3) of films that are looked at whole, or the (T, H, W, 3, kept, rate) of windows.

    Args:
        facts: of every film, see `scan_video`.
        frame_size, num_frames: see `choose_video_shape`.
        frame_rate: frames a second; None to spread the frames over a film, as is done with all that have no times, such
            as those of tensorflow-datasets.
    """
    shape = video.choose_video_shape(facts, frame_size, num_frames)
    if frame_rate is not None:
        require_frame_rate(frame_rate)
    if frame_rate is None or _are_without_times(facts):
        return shape
    longest = audio.longest_kept([fact["seconds"] for fact in facts], shape[0] / frame_rate)
    kept = max(shape[0], math.ceil(longest * frame_rate))
    require_room(kept, *shape[1:])
    return (*shape, kept, frame_rate)


def require_frame_rate(frame_rate):
    """Requires a number of frames a second of which films can be kept."""
    legal = (
        isinstance(frame_rate, (int, float)) and not isinstance(frame_rate, bool) and 0 < frame_rate <= MAX_FRAME_RATE
    )
    require(legal, f"`frame_rate` must be a number above 0, at most {MAX_FRAME_RATE:,}", frame_rate=frame_rate)


def require_room(kept, *frame):
    """Requires so many frames (H, W, 3) of one film to fit into memory, beside those of others."""
    require(
        kept * math.prod(frame) <= MAX_KEPT_BYTES,
        f"The frames of one film must take at most {MAX_KEPT_BYTES:,} bytes",
        frames=kept,
        frame=frame,
        repair="Ask for fewer or smaller ones with `frame_rate`, `num_frames` and `frame_size`.",
    )


def film_array(shape):
    """(shape, dtype) of the array of one example."""
    if len(shape) == 4:
        return shape, "uint8"
    return (), np.dtype([("frames", np.uint8, (shape[4], *shape[1:4])), ("frames_length", np.int32)])


def read_film(file, shape):
    """Reads a film as it is kept.

    Returns:
        (T, H, W, 3) uint8; or a scalar with `frames` (kept, H, W, 3) uint8, of which `frames_length` are of the film
        and the others its last one.

    Raises:
        InputError: as `read_video`.
    """
    if len(shape) == 4:
        return video.read_video(file, shape)
    return _kept(file, films.survey(file), shape)


def _kept(file, contents, shape):
    """A film whose `Contents` are known, kept at a rate."""
    kept, rate = shape[4:]
    example = np.zeros((), film_array(shape)[1])
    example["frames"] = video.read_surveyed(file, contents, (kept, *shape[1:4]), frame_rate=rate)
    example["frames_length"] = np.clip(video.frames_of(contents.seconds, rate), 1, kept)
    return example


def read_whole_film(file, shape):
    """Reads a film that may be longer than those of training: up to a minute of it, where it is looked at in windows.

    Returns:
        `(example, shape)`: as `read_film`, and the shape in which it is kept.
    """
    if len(shape) == 4:
        return read_film(file, shape), shape
    contents = films.survey(file)
    shape = (*shape[:4], whole_length(file, contents, shape, *shape[4:]), shape[5])
    return _kept(file, contents, shape), shape


def whole_length(file, contents, shape, kept, frame_rate):
    """How many frames of a film that is asked about are kept at a rate: at least `kept`, as in training, and at most
    those of `MAX_SECONDS` and `MAX_WHOLE_BYTES`."""
    there = video.frames_of(contents.seconds, frame_rate)
    most = min(math.ceil(audio.MAX_SECONDS * frame_rate), MAX_WHOLE_BYTES // math.prod(shape[1:4]))
    if there > max(kept, most):
        say(f"only the first {max(kept, most) / frame_rate:g} s are used of {name_of(file, 'film')}, which is longer")
    return max(kept, min(there, most))


def count_clips(frames, shape):
    """How many windows of each film of so many frames are tested, see `windows_of`: int of the shape of `frames`."""
    if len(shape) == 4:
        return np.ones(np.shape(frames), int)
    return audio.windows_of(np.minimum(frames, shape[4]), shape[0])


def clips_of_facts(facts, shape):
    """(n,) how many windows of each film are tested; see `count_clips`."""
    rate = shape[5] if len(shape) > 4 else 0
    return count_clips([video.frames_of(fact.get("seconds", 0), rate) for fact in facts], shape)


def clips_of_example(example, shape):
    """How many windows of one example are asked about."""
    return 1 if len(shape) == 4 else int(count_clips(int(example["frames_length"]), shape))


def clip_of(example, shape, number, count):
    """Window `number` of `count` that are spread evenly over a film; of one, the middle: (T, H, W, 3) float32."""
    if len(shape) == 4:
        return tf.cast(example, tf.float32)
    return take_window(example, shape, audio.window_start(example["frames_length"] - shape[0], number, count))


def take_window(example, shape, start):
    """(T, H, W, 3) float32 in [0, 255], from frame `start` on; where the film ends, its last frame stays."""
    return tf.cast(tf.slice(example["frames"], [start, 0, 0, 0], shape[:4]), tf.float32)


def augment_film(shape, *, crop_min_area=1.0, flip_rate=0.0, color_jitter=0.0):
    """What happens to one film of a training batch: a random window, where films are kept longer, and `augment_video`.

    Returns:
        Function `(one example of `read_film`, (2,) int32 seed) -> (T, H, W, 3) float32`.
    """
    see = augment_video(crop_min_area=crop_min_area, flip_rate=flip_rate, color_jitter=color_jitter)
    if len(shape) == 4:
        return see

    def augment(example, seed):
        start = audio.random_start(example["frames_length"] - shape[0], seed)
        return see(take_window(example, shape, start), seed)

    return augment


def film_notes(facts, shape):
    """What is to be said of a data set of films beside its problems."""
    heard = sum(fact["has_sound"] for fact in facts)
    cut = audio.cut_notes(facts, shape[4] / shape[5]) if len(shape) > 4 else []
    sound = "films have sound, which `--modality audio_video` uses too, and `--modality audio` alone"
    spread = "frames have no times: they are spread over each film, whatever `frame_rate` is asked for"
    timeless = [spread] if _are_without_times(facts) else []
    return [*cut, *timeless, *([f"{heard:,} {sound}"] if heard else [])]


def _are_without_times(facts):
    return not all("seconds" in fact for fact in facts)
