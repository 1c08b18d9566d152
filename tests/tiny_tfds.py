"""Prepares tiny sets of tensorflow-datasets on disk, under the names of real ones and without a network."""

from unittest import mock

import numpy as np
import tensorflow_datasets as tfds

COUNTS = {"train": 40, "test": 8}


def prepare(
    data_dir, name="FashionMnist", *, version="3.0.1", file_format="tfrecord", counts=COUNTS, shape=(28, 28, 1)
):
    """Writes `<data_dir>/<name>/<version>/`: grey pictures of one value each, ten classes in turn."""

    def info(self):
        features = {
            "image": tfds.features.Image(shape=shape),
            "label": tfds.features.ClassLabel(names=[f"class {i}" for i in range(10)]),
            "note": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def examples(self, count):
        for i in range(count):
            size = [n or 9 + i % 3 for n in shape]
            yield i, {"image": np.full(size, 3 * i, np.uint8), "label": i % 10 if count != 1 else -1, "note": "x"}

    members = {
        "VERSION": tfds.core.Version(version),
        "_info": info,
        "_split_generators": lambda self, _: {split: examples(self, count) for split, count in counts.items()},
        "_generate_examples": examples,
        "__module__": "tiny_tfds",
    }
    with tfds.core.registered.skip_registration(), no_cloud():
        builder = type(name, (tfds.core.GeneratorBasedBuilder,), members)(data_dir=data_dir, file_format=file_format)
        builder.download_and_prepare()


def prepare_examples(data_dir, name, splits, *, file_format="tfrecord"):
    """Writes a set with the features of its own builder, and other examples: `{split: list of them}`."""

    def generators(self, _):
        return {split: iter(enumerate(examples)) for split, examples in splits.items()}

    builder = tfds.builder(name, data_dir=data_dir, file_format=file_format)
    with mock.patch.object(type(builder), "_split_generators", generators), no_cloud():
        builder.download_and_prepare()


def no_cloud():
    """Nobody looks whether the set is prepared in the cloud."""
    return mock.patch("tensorflow_datasets.core.utils.gcs_utils.exists", return_value=False)
