"""What the road from files to a model must know of a modality, in one table."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from keras_perceiver.data import (
    audio,
    audio_features,
    audio_files,
    audio_video,
    augment,
    decoding,
    films,
    images,
    point_augmentation,
    point_files,
    points,
    video,
    video_windows,
)


@dataclass(frozen=True)
class Modality:
    """One kind of data. All that the other modules know of it is in here.

    A `shape` is what `choose_shape` returns, a tuple of numbers that says how examples are kept and enter a model:
    (H, W, c) of pictures, (window, samples a second, samples kept) of sounds, (T, H, W, 3) of films that are looked at
    whole and (T, H, W, 3, frames kept, frames a second) of windows of them, (T, H, W, 3, window, samples a second,
    frames kept) of films with sound, (M, 3 + e) of clouds of points. A raw example is an
    array, or, where its dtype is a structured one, a scalar of it, which becomes `{field: tensor}`: so examples of
    different length are kept with their length.

    Attributes:
        name: key of `MODALITIES`.
        extensions: of its files, lower case.
        scan: path -> facts that JSON can hold; an `InputError` where the file cannot be read. Each has
            `hash`, of what was decoded, and `low` and `high`, its range.
        read: (path or bytes, shape) -> one raw example.
        reads_parts: whether `read` takes a `crop` too, see `images.Crop`.
        choose_shape: (facts of all examples, what was asked for by name) -> shape.
        options: names of what can be asked for: arguments of `load_source` and of `choose_shape`.
        array: shape -> (shape, dtype) of the array of one example.
        input_shape: (shape, settings) -> `input_shape` of the model.
        served: shape -> `{input of a SavedModel: (shape without batch, dtype)}`; one input is that array, several
            are the fields that `preprocess` takes.
        range: of the numbers in the first of them; None where there is no end.
        preprocess: (shape, settings) -> function of what enters it, one or a batch: what stands before the model.
        augment: (shape, settings) -> function of one raw example and its (2,) int32 seed.
        draw: (matplotlib axes, an example as it enters the model, weights of its bytes or None) -> nothing; where
            `draws_clip`, `clip` is the window that it was made of, whose waveform is drawn too.
        settings: names of the settings of `preprocess`.
        asked_extensions: of other files, lower case, that are read too where the modality is asked for and most files
            have them: films, for their sound.
        read_whole: (path or bytes, shape) -> one raw example of a file that is asked about, which may be longer than
            those of training, and the shape in which it is kept; None where examples are looked at whole.
        notes: (facts of all examples, shape) -> sentences.
        facts_of: an array as it is stored -> the same facts; None where data come as files only.
        resize: (array as it is stored, shape) -> the same in that shape; None where data come as files only.
        mix: settings -> function of a raw batch, its labels and a (2,) int32 seed; or None.
        hide: settings -> function of a preprocessed batch and a (2,) int32 seed; or None.
        keeps: (settings of `preprocess`, those of `augment`) -> whether examples that are looked at whole enter a model
            alike in every epoch, and take so long to be made that they are better kept.
        count_clips: (facts of n examples, shape) -> (n,) how many clips of each are tested; None where examples are
            looked at whole.
        count_of: (raw example, shape) -> how many clips of it are asked about.
        clip: (raw example, shape, number, count) -> that clip, as `preprocess` takes it; None as `count_clips`.
        decoder: shape -> what `decode_examples` takes: a function of the bytes of a file, made of TensorFlow's
            operators, and the shapes of what it returns; None where files cannot be decoded in a graph.
        encode: (raw example as it is served, shape) -> the bytes of a file for it; None where there is no decoder.
    """

    name: str
    extensions: tuple[str, ...]
    scan: Callable
    read: Callable
    choose_shape: Callable
    options: tuple[str, ...]
    array: Callable
    input_shape: Callable
    served: Callable
    range: tuple[float | None, float | None]
    preprocess: Callable
    augment: Callable
    draw: Callable
    draws_clip: bool = False
    settings: tuple[str, ...] = ()
    asked_extensions: tuple[str, ...] = ()
    reads_parts: bool = False
    read_whole: Callable | None = None
    notes: Callable = lambda facts, shape: []
    facts_of: Callable | None = None
    resize: Callable | None = None
    mix: Callable | None = None
    hide: Callable | None = None
    keeps: Callable = lambda preprocess, augment: False
    count_clips: Callable | None = None
    count_of: Callable | None = None
    clip: Callable | None = None
    decoder: Callable | None = None
    encode: Callable | None = None


def _without_shape(function):
    """A function of settings alone as one of (shape, settings), with the same signature for who looks at it."""

    @functools.wraps(function)
    def with_shape(shape, **settings):
        return function(**settings)

    return with_shape


def _audio_input_shape(shape, **settings):
    """(T, F, 1) or (window, 1), as `preprocess_audio` makes it."""
    window, rate = shape[:2]
    if settings.get("audio_input") == "raw":
        return {"audio": (window, 1)}
    bins = settings.get("num_mel_bins") or audio_features.NUM_MEL_BINS
    return {"audio": (window // (settings.get("mel_hop") or audio.hop_of(rate)), bins, 1)}


MODALITIES = {
    "image": Modality(
        name="image",
        extensions=images.EXTENSIONS,
        scan=images.scan_image,
        facts_of=images.facts_of,
        read=images.read_image,
        reads_parts=True,
        resize=images.resize_pixels,
        choose_shape=images.choose_image_shape,
        options=("image_size",),
        array=lambda shape: (shape, "uint8"),
        input_shape=lambda shape, **settings: shape,
        served=lambda shape: {"image": (shape, "float32")},
        range=(0, 255),
        preprocess=_without_shape(images.preprocess_images),
        settings=("permute_seed",),
        augment=_without_shape(augment.augment_image),
        mix=augment.mix_batch,
        draw=images.draw_image,
        decoder=decoding.image_decoder,
        encode=decoding.encode_image,
    ),
    "audio": Modality(
        name="audio",
        extensions=audio_files.EXTENSIONS,
        asked_extensions=films.WITH_SOUND,
        scan=audio.scan_audio,
        read=audio.read_audio,
        read_whole=audio.read_whole_audio,
        choose_shape=audio.choose_audio_shape,
        options=("sample_rate", "clip_seconds"),
        notes=audio.audio_notes,
        array=lambda shape: ((), audio.audio_dtype(shape)),
        input_shape=_audio_input_shape,
        served=lambda shape: {"samples": (shape[:1], "float32"), "length": ((), "int32")},
        range=(-1, 1),
        preprocess=audio_features.preprocess_audio,
        settings=("audio_input", "num_mel_bins", "mel_hop", "trim_threshold"),
        augment=audio_features.augment_audio,
        hide=audio_features.spec_augment,
        keeps=audio_features.are_frames_kept,
        count_clips=lambda facts, shape: audio.count_clips([fact["seconds"] for fact in facts], shape),
        count_of=lambda example, shape: int(audio.count_clips(example["length"] / shape[1], shape)),
        clip=audio.clip_of,
        decoder=decoding.wav_decoder,
        encode=decoding.encode_wav,
        draw=audio_features.draw_audio,
        draws_clip=True,
    ),
    "video": Modality(
        name="video",
        extensions=films.EXTENSIONS,
        scan=video.scan_video,
        read=video_windows.read_film,
        read_whole=video_windows.read_whole_film,
        choose_shape=video_windows.choose_film_shape,
        options=("frame_size", "num_frames", "frame_rate"),
        notes=video_windows.film_notes,
        array=video_windows.film_array,
        input_shape=lambda shape: shape[:4],
        served=lambda shape: {"video": (shape[:4], "float32")},
        range=(0, 255),
        preprocess=_without_shape(video.preprocess_video),
        augment=video_windows.augment_film,
        count_clips=video_windows.clips_of_facts,
        count_of=video_windows.clips_of_example,
        clip=video_windows.clip_of,
        draw=video.draw_video,
    ),
    # Behind "video", which files with such names are unless it is asked for.
    "audio_video": Modality(
        name="audio_video",
        extensions=films.WITH_SOUND,
        scan=audio_video.scan_audio_video,
        read=audio_video.read_audio_video,
        read_whole=audio_video.read_whole_audio_video,
        choose_shape=audio_video.choose_audio_video_shape,
        options=("frame_size", "num_frames", "sample_rate", "clip_seconds", "frame_rate"),
        notes=audio_video.audio_video_notes,
        array=lambda shape: ((), audio_video.audio_video_dtype(shape)),
        input_shape=lambda shape, **settings: {"video": shape[:4], **_audio_input_shape(shape[4:], **settings)},
        served=lambda shape: {
            "frames": (shape[:4], "float32"),
            "frames_length": ((), "int32"),
            "samples": (shape[4:5], "float32"),
            "length": ((), "int32"),
        },
        range=(0, 255),
        preprocess=audio_video.preprocess_audio_video,
        settings=("audio_input", "num_mel_bins", "mel_hop"),
        augment=audio_video.augment_audio_video,
        hide=audio_features.spec_augment,
        count_clips=lambda facts, shape: audio_video.count_clips([fact["seconds"] for fact in facts], shape),
        count_of=lambda example, shape: int(
            audio_video.count_clips(example["frames_length"] * shape[4] / (shape[0] * shape[5]), shape)
        ),
        clip=audio_video.clip_of,
        draw=audio_video.draw_audio_video,
        draws_clip=True,
    ),
    "points": Modality(
        name="points",
        extensions=point_files.EXTENSIONS,
        scan=points.scan_points,
        read=points.read_points,
        choose_shape=points.choose_points_shape,
        options=("num_points",),
        notes=points.points_notes,
        array=lambda shape: ((), points.points_dtype(shape)),
        input_shape=lambda shape: {"points": shape},
        served=lambda shape: {"points": (shape, "float32"), "points_padding_mask": (shape[:1], "bool")},
        range=(None, None),
        preprocess=_without_shape(points.preprocess_points),
        augment=_without_shape(point_augmentation.augment_points),
        draw=points.draw_points,
    ),
}
