"""Classification sets of tensorflow-datasets by name, offline once they are prepared."""

import importlib.util
import os
from contextlib import contextmanager

import numpy as np

from keras_perceiver._checks import InputError, given, nearest, require
from keras_perceiver.data.catalogue_features import form_of
from keras_perceiver.data.examples import Lazy, in_parallel
from keras_perceiver.data.modalities import MODALITIES
from keras_perceiver.data.reports import Problem, Report, broken_off_notes
from keras_perceiver.data.splits import SPLITS, Split

LARGE = 2**31  # 2 GiB: more decoded bytes than this are decoded as they are needed


def read_catalogue(name, *, modality=None, data_dir=None, shape=None, console=None, **asked):
    """Reads a set of tensorflow-datasets, whose examples must be a picture, a sound, a film or a mesh, and its class or
    its classes.

    Files in it are read in their encoded form and decoded by the package's own readers. Sets of more than `LARGE` bytes
    stay on disk, which needs them prepared as `array_record`.

    Args:
        name: of the set, as tensorflow-datasets takes it: `name/config:version`.
        modality, data_dir, shape, console: see `load_source`.
        asked: options of the modality.

    Returns:
        `(modality, shape, splits, class_names, notes, problems)`: a `Problem` for each example that cannot be read and
        is left out. Pictures of a large set are not looked at before they are used: one that is broken is an
        `InputError` then.
    """
    builder = _builder(name, data_dir)
    example_key, label_key, form = _keys(builder.info, name, modality)
    features, kind = builder.info.features, MODALITIES[form.modality]
    unknown = sorted(option for option in given(asked) if option not in kind.options)
    require(not unknown, f"These options are not for data of the modality {kind.name!r}", options=unknown)
    _prepare(builder, name)
    names = [split for split in SPLITS if split in builder.info.splits]
    require("train" in names, "`data` must have a train split", data=f"tfds:{name}", splits=list(builder.info.splits))
    notes = [f"splits of tfds:{name} that are not used: {s}" for s in builder.info.splits if s not in names]
    notes += [f"tfds:{name}: {text}" for text in (builder.info.metadata or {}).get("notes", ())]
    kept, labels, facts, problems = {}, {}, {}, []
    for split in names:
        rows = _rows(builder, split, example_key, label_key, form)
        kept[split], labels[split], found, broken = _examined(rows, split, example_key, label_key, form, features)
        problems += broken
        _require_some(labels[split], split, broken)
        if form.scan is not None:
            facts[split] = found
    for split in [split for split in names if _without_labels(labels[split])]:
        notes.append(f"the {split} split of tfds:{name} has no labels and is not used")
        names.remove(split)
    require("train" in names, "The examples of the train split must have labels", data=f"tfds:{name}")
    known = [fact for split in names for fact in facts.get(split, ())]
    if shape is None:
        *size, channels = features[example_key].shape if form.scan is None else (None,)
        of_all = known or [{"size": size, "grey": channels == 1}]
        shape = kind.choose_shape(of_all, **{option: asked.get(option) for option in kind.options})
    shape = tuple(shape)
    notes += kind.notes(known, shape)
    places = {f"{split}/{i}": fact for split in facts for i, fact in zip(kept[split], facts[split], strict=True)}
    notes += broken_off_notes([place for place, fact in places.items() if (fact or {}).get("is_broken_off")])
    splits = {}
    for split in names:

        def read(row, **crop):
            example = form.read(row[example_key], features[example_key], shape, **crop)
            return np.asarray(example).astype(kind.array(shape)[1])

        rows = _rows(builder, split, example_key, label_key, form)
        array = (*kind.array(shape), kind.reads_parts)
        examples, good, broken = _examples(builder, rows, read, array, kept[split], name, split, console)
        problems += broken
        _require_some(good, split, broken)
        splits[split] = Split(
            examples,
            _numbers(labels[split], features[label_key])[good],
            tuple(f"{split}/{kept[split][place]}" for place in good),
            tuple(facts[split][place] for place in good) if split in facts else None,
        )
    return form.modality, shape, splits, tuple(_classes(features[label_key]).names), notes, problems


def find_catalogue_modality(name, data_dir=None):
    """The modality of a set, by its features alone."""
    return _keys(_builder(name, data_dir).info, name, None)[2].modality


def _builder(name, data_dir):
    import tensorflow_datasets as tfds

    from keras_perceiver.data import builders  # noqa: F401  # which tensorflow-datasets then knows by name

    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise InputError(
            f"`data` must name a set of tensorflow-datasets. Received: data={'tfds:' + name!r}. "
            + nearest(name, tfds.list_builders(with_community_datasets=False))
        ) from error
    except (ValueError, TypeError, OSError, AssertionError) as error:
        raise InputError(f"`data` must name a set of tensorflow-datasets. {_reason(error)}") from error


def _keys(info, name, modality):
    """The features that are the example and its label, and the form of the example.

    They are those that the set itself says it is trained on; where it says nothing, the only ones of their kind.
    """
    features = dict(info.features.items())
    if info.supervised_keys:
        example_key, label_key = info.supervised_keys[:2]
    else:
        examples = [key for key, feature in features.items() if form_of(feature) is not None]
        labels = [key for key, feature in features.items() if _classes(feature) is not None]
        is_clear = len(examples) == len(labels) == 1
        example_key, label_key = (examples[0], labels[0]) if is_clear else (None, None)
    form = form_of(features.get(example_key))
    require(
        form is not None and _classes(features.get(label_key)) is not None,
        "The examples of `data` must be a picture, a sound, a film or a mesh, and a class or several",
        data=f"tfds:{name}",
        features={key: type(feature).__name__ for key, feature in sorted(features.items())},
    )
    require(
        modality in (None, form.modality), "`modality` must be that of the data", modality=modality, found=form.modality
    )
    return example_key, label_key, form


def _classes(feature):
    """The `ClassLabel` of a feature, which is one or a sequence of them; None of others."""
    import tensorflow_datasets as tfds

    inner = feature.feature if isinstance(feature, tfds.features.Sequence) else feature
    return inner if isinstance(inner, tfds.features.ClassLabel) else None


def _examined(rows, split, example_key, label_key, form, features):
    """Of the examples of a split that can be read: their indices, labels and facts; and a `Problem` for each other."""
    kept, labels, facts, problems = [], [], [], []
    for index, row in enumerate(rows):
        try:
            facts.append(None if form.scan is None else form.scan(row[example_key], features[example_key]))
        except InputError as error:
            problems.append(_broken(split, index, error))
            continue
        kept.append(index)
        labels.append(np.asarray(row[label_key], np.int64))
    return kept, labels, facts, problems


def _broken(split, index, error):
    return Problem("broken example", f"{split}/{index}", str(error))


def _require_some(examples, split, problems):
    lines = Report(tuple(problems)).lines()
    require(len(examples) > 0, "Every split must hold examples that can be read", split=split, repair=". ".join(lines))


def _without_labels(labels):
    """Whether they are -1, which stands for a label that is held back, throughout."""
    return max(label.max(initial=-1) for label in labels) < 0


def _numbers(labels, feature):
    """Labels as `Split` has them."""
    if _classes(feature) is feature:
        return np.array(labels, np.int32)
    rows = np.zeros((len(labels), feature.feature.num_classes), np.int32)
    for row, several in zip(rows, labels, strict=True):
        row[several] = 1
    return rows


@contextmanager
def _naming(name, split, index):
    """Errors say which example it is."""
    try:
        yield
    except InputError as error:
        raise InputError(f"tfds:{name}, {split}, example {index}: {error}") from error


def _prepare(builder, name):
    """Downloads and prepares a set that is not there yet; what is there is used as it is."""
    can_choose = not os.path.isdir(builder.data_dir) and importlib.util.find_spec("array_record") is not None
    try:
        builder.download_and_prepare(file_format="array_record" if can_choose else None)
    except Exception as error:  # network, checksums, manual downloads that are missing, disk: all say why
        raise InputError(f"`data` must be prepared, or possible to download: tfds:{name}. {_reason(error)}") from error


def _rows(builder, split, example_key, label_key, form):
    """The examples of a split in the order in which they are stored: by index too, where that can be."""
    import tensorflow_datasets as tfds

    class Undecoded(tfds.decode.SkipDecoding):
        """Files in it as they are, and the frames of a film, for which tensorflow-datasets has it in graphs alone."""

        def decode_batch_example_np(self, example):
            return example

    decoders = {example_key: Undecoded()} if form.is_encoded else {}
    if _is_random_access(builder):
        return builder.as_data_source(split, decoders=decoders)
    only = tfds.decode.PartialDecoding({example_key: True, label_key: True}, decoders=decoders)
    return builder.as_dataset(split=split, shuffle_files=False, decoders=only).as_numpy_iterator()


def _examples(builder, rows, read, array, kept, name, split, console):
    """Those of a split at the indices `kept`: in memory, or, where they are large, decoded when they are asked for.

    `array` are shape, dtype and `has_parts` of a `Lazy`.

    Returns:
        `(examples, good, problems)`: `good` are the places in `kept` of those that could be read.
    """
    shape, dtype, has_parts = array
    if len(kept) * int(np.prod(shape)) * np.dtype(dtype).itemsize <= LARGE:
        found = list(_read_all(rows, read, kept, split, console))
        good = [place for place, example in enumerate(found) if not isinstance(example, InputError)]
        broken = [_broken(split, kept[i], e) for i, e in enumerate(found) if isinstance(e, InputError)]
        return np.stack([found[place] for place in good]) if good else (), good, broken
    require(
        _is_random_access(builder),
        f"Sets of more than {LARGE:,} bytes must be prepared as array_record",
        data=f"tfds:{name}",
        file_format=str(builder.info.file_format),
        repair="`tfds build --file_format=array_record`, or another `data_dir`.",
    )

    def fetch(index, **crop):
        with _naming(name, split, index):
            return read(rows[index], **crop)

    return Lazy(fetch, kept, shape, dtype, has_parts), list(range(len(kept))), []


def _read_all(rows, read, kept, split, console):
    """Yields each of these examples, or the `InputError` that it makes."""

    def attempt(row):
        try:
            return read(row)
        except InputError as error:
            return error

    wanted = set(kept)
    some = (row for index, row in enumerate(rows) if index in wanted)
    return in_parallel(attempt, some, f"reading {split}", console, len(kept))


def _is_random_access(builder):
    return "array_record" in str(getattr(builder.info.file_format, "value", ""))


def _reason(error):
    """What an error says, on one line: instructions for what must be downloaded by hand may be long."""
    return " ".join(str(error).split())[:1000] or type(error).__name__
