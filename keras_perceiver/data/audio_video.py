"""Films with their sound: frames and samples of the same moments, in windows that both share.

Frames and samples are read by the readers of films and of sounds. A film is kept from its first frame on at one rate of
frames and one of samples; a window is T frames and the samples of the same time.
"""

import math

import numpy as np
import tensorflow as tf

from keras_perceiver._checks import require
from keras_perceiver.data import audio, audio_files, films, video, video_windows
from keras_perceiver.data.audio_features import draw_audio, preprocess_audio, white_noise
from keras_perceiver.data.video_augmentation import augment_video


def read_audio_video(file, shape):
    """Reads a film with its sound.

    Args:
        file: path of an MP4, AVI, MPG, WebM or MKV file, or its bytes.
        shape: (T, H, W, 3, window, sample_rate, kept), see `choose_audio_video_shape`.

    Returns:
        A scalar of `audio_video_dtype(shape)`: `frames` (kept, H, W, 3) uint8, of which `frames_length` are of the film
        and the others its last one; `samples` int16, zeros behind the end, of which `length` are of the film.

    Raises:
        InputError: as `read_video` and `read_audio`, and where there is no sound.
    """
    frames, height, width, channels, window, rate, kept = shape
    frame_rate = frames * rate / window
    example = np.zeros((), audio_video_dtype(shape))
    contents = films.survey(file, with_sound=True)
    example["frames"] = video.read_surveyed(file, contents, (kept, height, width, channels), frame_rate=frame_rate)
    example["frames_length"] = np.clip(video.frames_of(contents.seconds, frame_rate), 1, kept)
    seconds = len(example["samples"]) / rate
    samples, _, _ = audio_files.decode_audio(file, rate, seconds, is_film=True, origin=contents.start)
    samples = samples[: len(example["samples"])]
    example["samples"][: len(samples)] = audio.as_int16(samples)
    example["length"] = len(samples)
    return example


def read_whole_audio_video(file, shape):
    """Reads a film with its sound that may be longer than those of training: up to a minute of it.

    Returns:
        `(example, shape)`: as `read_audio_video`, and the shape in which it is kept.
    """
    frames, window, rate, kept = shape[0], *shape[4:]
    contents = films.survey(file, with_sound=True)
    kept = video_windows.whole_length(file, contents, shape, kept, frames * rate / window)
    shape = (*shape[:6], kept)
    return read_audio_video(file, shape), shape


def audio_video_dtype(shape):
    """The NumPy dtype of one example."""
    frames, height, width, channels, window, _, kept = shape
    samples = math.ceil(kept * window / frames)
    return np.dtype(
        [
            ("frames", np.uint8, (kept, height, width, channels)),
            ("frames_length", np.int32),
            ("samples", np.int16, (samples,)),
            ("length", np.int32),
        ]
    )


def scan_audio_video(path):
    """What is in a film with sound: `scan_video`'s facts with the `rate` of its samples.

    Raises:
        InputError: as `read_audio_video`.
    """
    contents = films.survey(path, with_sound=True)
    facts = video.scan_surveyed(path, contents)
    samples, rate, broken_off = audio_files.decode_audio(
        path, None, audio.MAX_SECONDS, is_film=True, origin=contents.start
    )
    heard = audio.facts_of(samples, rate)
    return {
        **facts,
        "rate": rate,
        "is_broken_off": facts["is_broken_off"] or broken_off,
        "is_cut": facts["seconds"] > audio.MAX_SECONDS,
        "hash": facts["hash"] + heard["hash"],
    }


def choose_audio_video_shape(
    facts, frame_size=None, num_frames=None, sample_rate=None, clip_seconds=None, frame_rate=None
):
    """The (T, H, W, 3, window, sample_rate, kept) of films with sound.

    T frames are spread over the time of `window` samples; `kept` frames, of all films the most, are held of one.

    Args:
        facts: of every film, see `scan_audio_video`.
        frame_size, num_frames: see `choose_video_shape`.
        sample_rate, clip_seconds: see `choose_audio_shape`.
        frame_rate: frames a second, from which the third of it, `num_frames` and `clip_seconds` follows; None for what
            these two make. A window of sound is a multiple of 16 frames of its spectrogram: so it is kept about, and
            `audio_video_notes` say what it is. A number of frames that follows from it is even, for patches.
    """
    if frame_rate is not None:
        video_windows.require_frame_rate(frame_rate)
        require(
            num_frames is None or clip_seconds is None,
            "One of `frame_rate`, `num_frames` and `clip_seconds` must be left out: it follows from the others",
            frame_rate=frame_rate,
            num_frames=num_frames,
            clip_seconds=clip_seconds,
        )
        clip_seconds = clip_seconds if num_frames is None else num_frames / frame_rate
    window, rate, kept = audio.choose_audio_shape(facts, sample_rate, clip_seconds)
    if frame_rate is not None and num_frames is None:
        num_frames = 2 * max(1, round(frame_rate * window / rate / 2))
    frames, height, width, channels = video.choose_video_shape(facts, frame_size, num_frames)
    shape = frames, height, width, channels, window, rate, max(frames, math.ceil(frames * kept / window))
    video_windows.require_room(shape[-1], *shape[1:4])
    return shape


def audio_video_notes(facts, shape):
    """What is to be said of a data set beside its problems."""
    frames, window, rate, kept = shape[0], *shape[4:]
    said = f"{frames} frames beside {window / rate:.3g} s of sound: {frames * rate / window:.4g} frames a second"
    return [said, *audio.cut_notes(facts, kept * window / frames / rate)]


def count_clips(seconds, shape):
    """How many windows of each film are tested, see `windows_of`: int of the shape of `seconds`, the durations."""
    window, rate, kept = shape[4:]
    return audio.count_clips(seconds, (window, rate, kept * window // shape[0]))


def clip_of(example, shape, number, count):
    """Window `number` of `count` that are spread evenly over a film; of one, the middle."""
    return take_window(example, shape, audio.window_start(example["frames_length"] - shape[0], number, count))


def take_window(example, shape, start):
    """From frame `start` on: `frames` (T, H, W, 3) float32 in [0, 255], `frames_length`, `samples` (window,) float32 in
    [-1, 1] and `length`."""
    frames, window = shape[0], shape[4]
    first = tf.minimum(
        tf.cast(tf.cast(start, tf.float32) * (window / frames), tf.int32), example["samples"].shape[0] - window
    )
    clip = tf.slice(example["frames"], [start, 0, 0, 0], [frames, *shape[1:4]])
    return {
        "frames": tf.cast(clip, tf.float32),
        "frames_length": tf.minimum(example["frames_length"] - start, frames),
        **audio.take_window({**example, "length": tf.maximum(example["length"], first)}, window, first),
    }


def preprocess_audio_video(shape, *, audio_input=None, num_mel_bins=None, mel_hop=None):
    """What stands between a film with sound and the model: a function of windows, one or a batch.

    Args:
        shape: see `choose_audio_video_shape`.
        audio_input, num_mel_bins, mel_hop: see `preprocess_audio`.

    Returns:
        Function of `{"frames": (.., T, H, W, 3), "frames_length": (..), "samples": (.., window), "length": (..)}` ->
        `{"video": (.., T, H, W, 3) float32 in [-1, 1], "video_padding_mask": (.., T, H, W) bool}` and the `audio` of
        `preprocess_audio`. What lies behind the film's end is masked.
    """
    hear = preprocess_audio(shape[4:], audio_input=audio_input, num_mel_bins=num_mel_bins, mel_hop=mel_hop)
    see = video.preprocess_video()

    def preprocess(clips):
        is_real = tf.range(shape[0]) < clips["frames_length"][..., None]  # (.., T)
        sizes = tf.concat([tf.shape(is_real), shape[1:3]], 0)
        mask = tf.broadcast_to(is_real[..., None, None], sizes)
        return {
            "video": see(clips["frames"]),
            "video_padding_mask": tf.ensure_shape(mask, (*clips["frames_length"].shape, *shape[:3])),
            **hear({"samples": clips["samples"], "length": clips["length"]}),
        }

    return preprocess


def augment_audio_video(shape, *, crop_min_area=1.0, flip_rate=0.0, color_jitter=0.0, noise_std=0.0):
    """What happens to one film of a training batch: a random window, then what happens to films and to sounds.

    Args:
        shape: see `choose_audio_video_shape`.
        crop_min_area, flip_rate, color_jitter: see `augment_video`.
        noise_std: see `augment_audio`.

    Returns:
        Function `(one example of `read_audio_video`, (2,) int32 seed)` -> one window for `preprocess_audio_video`.
    """
    see = augment_video(crop_min_area=crop_min_area, flip_rate=flip_rate, color_jitter=color_jitter)
    add_noise = white_noise(noise_std)

    def augment(example, seed):
        clip = take_window(example, shape, audio.random_start(example["frames_length"] - shape[0], seed))
        return {**clip, "frames": see(clip["frames"], seed), "samples": add_noise(clip["samples"], seed)}

    return augment


def draw_audio_video(axes, example, weights=None, clip=None):
    """Draws four frames of a preprocessed window, and its sound below them, see `draw_audio`.

    With `weights` of its bytes, `{"video": (t, h, w), "audio": (t, f) or (t,)}`, they are grey, and those of each
    modality are laid over it.
    """
    weights = weights or {"video": None, "audio": None}
    frames, sound = axes.inset_axes([0, 0.5, 1, 0.5]), axes.inset_axes([0, 0, 1, 0.48])
    video.draw_video(frames, example["video"], weights["video"])
    draw_audio(sound, example, weights["audio"], clip)
    for inner in (frames, sound):
        inner.set(xticks=[], yticks=[])
        inner.spines[:].set_visible(False)
