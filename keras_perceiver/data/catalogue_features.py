"""How examples lie in sets of tensorflow-datasets, by their feature: what is in one, and how it is read."""

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np

from keras_perceiver._checks import InputError, require
from keras_perceiver.data import audio, audio_files, point_files, points
from keras_perceiver.data.images import read_image, scan_image

MESH = {"vertices", "faces"}  # parts of a feature that is a mesh


@dataclasses.dataclass(frozen=True)
class Form:
    """One way in which examples are stored.

    Attributes:
        modality: key of `MODALITIES`.
        is_encoded: whether tensorflow-datasets hands out the bytes of the files in it, and decodes nothing.
        scan: (stored example, its feature) -> facts, see `Modality.scan`; None where the feature alone says the shape.
        read: (stored example, its feature, shape) -> raw example, see `Modality.read`; that of a picture takes a
            `crop` too.
    """

    modality: str
    is_encoded: bool
    scan: Callable | None
    read: Callable


def form_of(feature):
    """The `Form` of a feature; None where it is none of an example."""
    name = type(feature).__name__
    if name == "Audio":
        return ENCODED_SOUND if feature.to_json_content().lazy_decode else FORMS["Audio"]
    if name == "FeaturesDict" and set(feature) == MESH:
        return MESHES
    return FORMS.get(name)


def _scan_sound(samples, feature):
    sound, rate = _sound(samples, feature)
    return {**audio.facts_of(sound, rate), "is_cut": len(sound) < len(samples)}


def _read_sound(samples, feature, shape):
    _, rate, kept = shape
    samples, own = _sound(samples, feature)
    return audio.pack(audio_files.resample(samples, own, rate)[:kept], shape)


def _sound(samples, feature):
    """((S,) float32 in [-1, 1], samples a second) of stored samples, (S,) or (S, channels), of `MAX_SECONDS`."""
    rate, samples = feature.sample_rate, np.asarray(samples)
    legal = isinstance(rate, int) and audio_files.MIN_RATE <= rate <= audio_files.MAX_RATE
    require(legal, "The feature must say how many samples it has a second", sample_rate=rate)
    require(samples.size > 0, "A sound must hold samples", shape=samples.shape)
    if samples.dtype.kind == "i":
        low, high = int(samples.min()), int(samples.max())
        require(-32768 <= low <= high <= 32767, "Samples must be whole numbers of 16 bits", lowest=low, highest=high)
        samples = samples.astype(np.int16)
    require(bool(np.isfinite(samples).all()), "Samples must be finite")
    samples = np.clip(audio_files.average(samples.reshape(len(samples), -1).T), -1.0, 1.0)
    return samples[: int(audio.MAX_SECONDS * rate)], rate


def _scan_frames(frames, feature):
    """Facts of the first frame; the hash is that of all, as they are encoded."""
    require(len(frames) > 0, "A film must have frames", frames=len(frames))
    digest = hashlib.blake2b(digest_size=16)
    for frame in frames:
        digest.update(bytes(frame))
    first = scan_image(bytes(frames[0]))
    return {**first, "frames": len(frames), "has_sound": False, "hash": digest.hexdigest()}


def _read_frames(frames, feature, shape):
    """T frames, spread evenly over the film."""
    require(len(shape) == 4, "Frames of tensorflow-datasets have no times: `frame_rate` must be left out", shape=shape)
    places = np.arange(shape[0]) * len(frames) // shape[0]
    return np.stack([read_image(bytes(frames[place]), shape[1:]) for place in places])


def _mesh(parts):
    vertices, faces = np.asarray(parts["vertices"], np.float64), np.asarray(parts["faces"], np.int64)
    try:
        return point_files.checked(point_files.Cloud(vertices, faces if len(faces) else None))
    except (ValueError, IndexError) as error:
        raise InputError(f"A mesh must be one that can be used. {error}") from error


FORMS = {
    "Image": Form("image", True, None, lambda encoded, _, shape, **crop: read_image(bytes(encoded), shape, **crop)),
    "Audio": Form("audio", False, _scan_sound, _read_sound),
    "Video": Form("video", True, _scan_frames, _read_frames),
}
ENCODED_SOUND = Form(
    "audio",
    True,
    lambda encoded, feature: audio.scan_audio(bytes(encoded)),
    lambda encoded, feature, shape: audio.read_audio(bytes(encoded), shape),
)
MESHES = Form(
    "points",
    False,
    lambda parts, feature: points.facts_of(_mesh(parts)),
    lambda parts, feature, shape: points.pack(_mesh(parts), shape),
)
