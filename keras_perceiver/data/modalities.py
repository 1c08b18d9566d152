"""What the road from files to a model must know of a modality, in one table."""

from collections.abc import Callable
from dataclasses import dataclass

from keras_perceiver.data import augment, images


@dataclass(frozen=True)
class Modality:
    """One kind of data. All that the other modules know of it is in here.

    Attributes:
        name: key of `MODALITIES`.
        extensions: of its files, lower case.
        scan: path -> facts that JSON can hold; an `InputError` where the file cannot be read. Each has
            `hash`, of what was decoded, and `low` and `high`, its range.
        facts_of: an array as it is stored -> the same facts.
        read: (path or bytes, shape) -> one example.
        resize: (array as it is stored, shape) -> the same in that shape.
        choose_shape: (facts of all examples, size asked for or None) -> shape of one example.
        preprocess: settings -> function of raw examples, one or a batch: what stands before the model.
        augment: settings -> function of one raw example and its (2,) int32 seed.
        mix: settings -> function of a raw batch, its labels and a (2,) int32 seed; or None.
        draw: (matplotlib axes, an example as it enters the model) -> nothing.
        dtype: in which examples are kept.
        feature: class name of its feature in tensorflow-datasets.
    """

    name: str
    extensions: tuple[str, ...]
    scan: Callable
    facts_of: Callable
    read: Callable
    resize: Callable
    choose_shape: Callable
    preprocess: Callable
    augment: Callable
    mix: Callable
    draw: Callable
    dtype: str
    feature: str


MODALITIES = {
    "image": Modality(
        name="image",
        extensions=images.EXTENSIONS,
        scan=images.scan_image,
        facts_of=images.facts_of,
        read=images.read_image,
        resize=images.resize_pixels,
        choose_shape=images.choose_image_shape,
        preprocess=images.preprocess_images,
        augment=augment.augment_image,
        mix=augment.mix_batch,
        draw=images.draw_image,
        dtype="uint8",
        feature="Image",
    ),
}
