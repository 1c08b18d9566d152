"""A source and a recipe -> the data sets that a model is trained with."""

import inspect
import math
import re
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from keras_perceiver._checks import InputError
from keras_perceiver.data import MODALITIES, evaluation_dataset, training_dataset
from keras_perceiver.data.augment import crop_of_files
from keras_perceiver.data.examples import Lazy
from keras_perceiver.data.pipeline import WHOLE, Keep, epoch_order, evaluation_steps, part_reader
from keras_perceiver.data.service import service_reader, through_service

EVALUATION_BATCH = 256  # examples, or clips of them; fewer where they are large
EVALUATION_BYTES = 2**29  # 512 MiB of one batch, as it enters a model
MIN_EVALUATION_BATCH = 16  # so that each of eight replicas has some


def training_data(
    source,
    recipe,
    seed,
    *,
    position=(0, 0),
    preprocess=None,
    is_repeated=False,
    shard=WHOLE,
    service=None,
    console=None,
):
    """The training split of `source` from a position on, augmented as `recipe` says; see `training_dataset`.

    With the address of a data service, that makes them ready. Where they are repeated for several epochs, what takes
    long to be made and stays the same is made before the first batch, and kept.
    """
    kind = MODALITIES[source.modality]
    first_epoch, first_step = position
    crop, read = crop_of_files(recipe.crop_min_area) if crops_before_resizing(source, recipe) else None, None
    if service is not None:
        read = service_reader(source, crop)
    elif crop is not None:
        read = part_reader(source.splits["train"].examples, crop)
    if crop is not None and read is not None:
        recipe = recipe.replaced(crop_min_area=1.0)  # what is read is a crop
    return training_dataset(
        source.splits["train"],
        batch_size=recipe.batch_size,
        num_classes=len(source.class_names),
        seed=seed,
        num_epochs=recipe.epochs,
        first_epoch=first_epoch,
        first_step=first_step,
        preprocess=kind.preprocess(source.example_shape, **(preprocess or {})),
        augment=augmentation(source, recipe),
        mix=None if kind.mix is None else kind.mix(**_settings(kind.mix, recipe)),
        hide=hiding(source, recipe),
        keep=_what_is_kept(source, recipe, preprocess or {}) if service is None and is_repeated else None,
        shard=shard,
        read=read,
        service=None if service is None else lambda dataset: through_service(dataset, service),
        console=console,
    )


def _what_is_kept(source, recipe, preprocess):
    """The `Keep` of the training examples, or None: those of which a random window is the whole, where most are so. A
    batch that is made together takes less than its examples one by one."""
    kind, clip, split = MODALITIES[source.modality], _clip_of(source), source.splits["train"]
    if split.facts is None or not kind.keeps(preprocess, _settings(kind.augment, recipe)):
        return None
    whole = np.flatnonzero(clips_of(source, "train") == 1)
    return Keep(whole, lambda example: clip(example, 0, 1)) if len(whole) > len(split) // 2 else None


def _clip_of(source):
    """The function of a raw example, the number of a clip and how many there are; None where examples are whole."""
    clip, shape = MODALITIES[source.modality].clip, source.example_shape
    return None if clip is None else lambda example, number, count: clip(example, shape, number, count)


def examples_of_step(source, recipe, seed, epoch, step):
    """The names of the examples of one batch of training, or their indices in the split where they have none."""
    split, size = source.splits["train"], recipe.batch_size
    indices = epoch_order(len(split), seed, epoch)[step * size : (step + 1) * size].numpy()
    return [str(i) if split.names is None else split.names[i] for i in indices]


def evaluation_data(source, split, *, preprocess=None, clips=None, is_repeated=False, shard=WHOLE, console=None):
    """One split of `source`, every example; see `evaluation_dataset`.

    Args:
        clips: those of `clips_of`; None for one.
        is_repeated: whether it is evaluated after every epoch: what takes long to be made is kept then.
    """
    kind = MODALITIES[source.modality]
    shape = source.example_shape
    return evaluation_dataset(
        source.splits[split],
        batch_size=evaluation_batch(source),
        num_classes=len(source.class_names),
        preprocess=kind.preprocess(shape, **(preprocess or {})),
        clip=_clip_of(source),
        clips=clips,
        is_kept=is_repeated and kind.keeps(preprocess or {}, {}),
        shard=shard,
        console=console,
    )


def steps_of_evaluation(source, split, clips=None):
    """Steps of `evaluation_data`."""
    count = len(source.splits[split]) if clips is None else int(np.sum(clips))
    return evaluation_steps(count, evaluation_batch(source))


def evaluation_batch(source):
    """How many examples, or clips of them, are evaluated at once at most."""
    return max(MIN_EVALUATION_BATCH, min(EVALUATION_BATCH, EVALUATION_BYTES // example_bytes(source)))


def example_bytes(source):
    """Bytes of one example, or clip of one, as it enters a served model."""
    arrays = MODALITIES[source.modality].served(source.example_shape).values()
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in arrays)


def raw_examples(source, split, count):
    """So many examples of a split, spread evenly over it, as they enter a served model; all where there are fewer.

    Of each the middle clip, where examples are looked at in clips.

    Returns:
        `({input: (n, ..)}, labels (n,) or (n, classes))`, see `Modality.served`.
    """
    kind, shape, whole = MODALITIES[source.modality], source.example_shape, source.splits[split]
    some = whole.take(np.unique(np.linspace(0, len(whole) - 1, min(count, len(whole))).round().astype(int)))
    specs = kind.served(shape)

    def as_served(x):
        x = x if isinstance(x, dict) else {next(iter(specs)): x}
        return {name: tf.cast(x[name], dtype) for name, (_, dtype) in specs.items()}

    dataset = evaluation_dataset(
        some,
        batch_size=len(some),
        num_classes=len(source.class_names),
        preprocess=as_served,
        clip=_clip_of(source),
    )
    with file_errors():
        ((examples, _),) = dataset.as_numpy_iterator()
    return examples, some.labels


def clips_of(source, split):
    """(n,) how many clips of each example are tested, or None where examples are looked at whole."""
    count_clips, facts = MODALITIES[source.modality].count_clips, source.splits[split].facts
    return None if count_clips is None else count_clips(facts, source.example_shape)


@contextmanager
def file_errors():
    """Files that are decoded while a model runs may have gone, or have changed, since they were looked at."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        reason = re.search(r"InputError: (.*)", str(error))
        if reason is None:
            raise
        raise InputError(reason[1]) from error


def crops_before_resizing(source, recipe):
    """Whether `recipe` takes random crops of the pictures as they are in their files, and the source has such."""
    examples = source.splits["train"].examples
    can = isinstance(examples, Lazy) and examples.has_parts
    return can and recipe.crop_before_resizing and recipe.crop_min_area < 1


def augmentation(source, recipe):
    """What `recipe` does to one example of the source: a function of the raw example and its seed."""
    augment = MODALITIES[source.modality].augment
    return augment(source.example_shape, **_settings(augment, recipe))


def hiding(source, recipe):
    """What `recipe` hides of a preprocessed batch: a function of the batch and its seed, or None."""
    hide = MODALITIES[source.modality].hide
    return None if hide is None else hide(**_settings(hide, recipe))


def _settings(function, recipe):
    """What a modality's augmentation takes from the recipe: the attributes with the names of its keyword arguments."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: getattr(recipe, p.name) for p in parameters if p.kind is p.KEYWORD_ONLY}
