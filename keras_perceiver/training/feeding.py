"""A source and a recipe -> the data sets that a model is trained with."""

import inspect
import re
from contextlib import contextmanager

import tensorflow as tf

from keras_perceiver._checks import InputError
from keras_perceiver.data import MODALITIES, evaluation_dataset, training_dataset

EVALUATION_BATCH = 256


def training_data(source, recipe, seed, *, first_epoch=0, preprocess=None, console=None):
    """The training split of `source`, augmented as `recipe` says; see `training_dataset`."""
    kind = MODALITIES[source.modality]
    return training_dataset(
        source.splits["train"],
        batch_size=recipe.batch_size,
        num_classes=len(source.class_names),
        seed=seed,
        num_epochs=recipe.epochs,
        first_epoch=first_epoch,
        preprocess=kind.preprocess(**(preprocess or {})),
        augment=augmentation(source.modality, recipe),
        mix=kind.mix(**_settings(kind.mix, recipe)),
        console=console,
    )


def evaluation_data(source, split, *, preprocess=None, console=None):
    """One split of `source`, every example once; see `evaluation_dataset`."""
    return evaluation_dataset(
        source.splits[split],
        batch_size=EVALUATION_BATCH,
        num_classes=len(source.class_names),
        preprocess=MODALITIES[source.modality].preprocess(**(preprocess or {})),
        console=console,
    )


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


def augmentation(modality, recipe):
    """What `recipe` does to one example of that modality: a function of the raw example and its seed."""
    kind = MODALITIES[modality]
    return kind.augment(**_settings(kind.augment, recipe))


def _settings(function, recipe):
    """What a modality's augmentation takes from the recipe: the attributes with the names of its arguments."""
    return {name: getattr(recipe, name) for name in inspect.signature(function).parameters}
