"""Classification sets of tensorflow-datasets by name, offline once they are prepared."""

import importlib.util
import os

import numpy as np

from keras_perceiver._checks import InputError, nearest, require
from keras_perceiver.data.examples import Lazy, in_parallel
from keras_perceiver.data.modalities import MODALITIES
from keras_perceiver.data.splits import SPLITS, Split

LARGE = 2**31  # 2 GiB: more decoded bytes than this are decoded as they are needed


def read_catalogue(name, *, modality=None, data_dir=None, shape=None, image_size=None, console=None):
    """Reads a set of tensorflow-datasets, whose examples must be (image, class).

    Examples are read in their encoded form and decoded by the package's own reader. Sets of more than `LARGE` bytes
    stay on disk, which needs them prepared as `array_record`.

    Returns:
        `(modality, splits, class_names, notes)`.
    """
    builder = _builder(name, data_dir)
    example_key, label_key, modality = _keys(builder.info, name, modality)
    features, kind = builder.info.features, MODALITIES[modality]
    *size, channels = features[example_key].shape
    shape = tuple(shape or kind.choose_shape([{"size": size, "grey": channels == 1}], image_size))
    _, dtype = kind.array(shape)
    _prepare(builder, name)
    names = [split for split in SPLITS if split in builder.info.splits]
    require("train" in names, "`data` must have a train split", data=f"tfds:{name}", splits=list(builder.info.splits))
    splits, notes = {}, [f"splits of tfds:{name} that are not used: {s}" for s in builder.info.splits if s not in names]
    for split in names:
        labels = np.array([int(row[label_key]) for row in _rows(builder, split, example_key, label_key)], np.int32)
        require(len(labels) > 0, "Every split must hold examples", split=split)
        if labels.max() < 0:
            notes.append(f"the {split} split of tfds:{name} has no labels and is not used")
            continue

        def read(index, row, split=split):
            try:
                return kind.read(bytes(row[example_key]), shape).astype(dtype)
            except InputError as error:
                raise InputError(f"tfds:{name}, {split}, example {index}: {error}") from error

        rows = _rows(builder, split, example_key, label_key)
        if len(labels) * int(np.prod(shape)) > LARGE:
            examples = _on_disk(builder, rows, read, shape, dtype, name)
        else:
            pairs = in_parallel(lambda pair: read(*pair), enumerate(rows), f"reading {split}", console, len(labels))
            examples = np.stack(list(pairs))
        splits[split] = Split(examples, labels, tuple(f"{split}/{i}" for i in range(len(labels))))
    return modality, splits, tuple(features[label_key].names), notes


def _builder(name, data_dir):
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise InputError(
            f"`data` must name a set of tensorflow-datasets. Received: data={'tfds:' + name!r}. "
            + nearest(name, tfds.list_builders(with_community_datasets=False))
        ) from error
    except (ValueError, TypeError, OSError, AssertionError) as error:
        raise InputError(f"`data` must name a set of tensorflow-datasets. {_first_line(error)}") from error


def _keys(info, name, modality):
    """The features that are the example and its label, and the modality."""
    import tensorflow_datasets as tfds

    example_key, label_key = info.supervised_keys[:2] if info.supervised_keys else (None, None)
    features = dict(info.features.items())
    found = type(features.get(example_key)).__name__
    by_feature = {kind.feature: kind.name for kind in MODALITIES.values() if kind.feature}
    require(
        found in by_feature and isinstance(features.get(label_key), tfds.features.ClassLabel),
        f"The examples of `data` must be ({' or '.join(by_feature)}, ClassLabel)",
        data=f"tfds:{name}",
        features=sorted(features),
    )
    require(
        modality in (None, by_feature[found]),
        "`modality` must be that of the data",
        modality=modality,
        found=by_feature[found],
    )
    return example_key, label_key, by_feature[found]


def _prepare(builder, name):
    """Downloads and prepares a set that is not there yet; what is there is used as it is."""
    can_choose = not os.path.isdir(builder.data_dir) and importlib.util.find_spec("array_record") is not None
    try:
        builder.download_and_prepare(file_format="array_record" if can_choose else None)
    except Exception as error:  # network, checksums, manual downloads that are missing, disk: all say why
        raise InputError(
            f"`data` must be prepared, or possible to download: tfds:{name}. {_first_line(error)}"
        ) from error


def _rows(builder, split, example_key, label_key):
    """The examples of a split in the order in which they are stored, encoded: by index too, where that can be."""
    import tensorflow_datasets as tfds

    encoded = {example_key: tfds.decode.SkipDecoding()}
    if _is_random_access(builder):
        return builder.as_data_source(split, decoders=encoded)
    only = tfds.decode.PartialDecoding({example_key: True, label_key: True}, decoders=encoded)
    return builder.as_dataset(split=split, shuffle_files=False, decoders=only).as_numpy_iterator()


def _on_disk(builder, rows, read, shape, dtype, name):
    """Examples that are decoded when they are asked for."""
    require(
        _is_random_access(builder),
        f"Sets of more than {LARGE:,} bytes must be prepared as array_record",
        data=f"tfds:{name}",
        file_format=str(builder.info.file_format),
        repair="`tfds build --file_format=array_record`, or another `data_dir`.",
    )
    return Lazy(lambda index: read(index, rows[index]), range(len(rows)), shape, dtype)


def _is_random_access(builder):
    return "array_record" in str(getattr(builder.info.file_format, "value", ""))


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
