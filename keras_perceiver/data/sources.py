"""Where data come from: a name, a folder, a file or data sets -> labelled examples in three splits."""

import dataclasses
import os
from pathlib import Path

import numpy as np

from keras_perceiver._checks import nearest, require, require_one_of
from keras_perceiver.data.arrays import image_splits, read_datasets, read_npz
from keras_perceiver.data.catalogue import find_catalogue_modality, read_catalogue
from keras_perceiver.data.examples import Lazy, in_parallel
from keras_perceiver.data.folders import list_folder
from keras_perceiver.data.modalities import MODALITIES
from keras_perceiver.data.reports import Problem, Report, broken_off_notes, some_of
from keras_perceiver.data.scan import scan_files
from keras_perceiver.data.source import SPLIT_SEED, Source, check_classes, finished
from keras_perceiver.data.splits import SPLITS, Split


def load_source(
    data,
    *,
    modality=None,
    data_dir=None,
    image_size=None,
    sample_rate=None,
    clip_seconds=None,
    frame_size=None,
    num_frames=None,
    frame_rate=None,
    num_points=None,
    shape=None,
    strict=False,
    splits=None,
    console=None,
):
    """Loads a data set.

    Splits that the data do not bring are made, see `complete_splits`. What cannot be used is skipped, counted and
    named in `Source.report`.

    Args:
        data: `"digits"`; `"tfds:NAME"` for a set of tensorflow-datasets; the path of a folder, as `<class>/<file>`,
            `<split>/<class>/<file>` or with a `labels.csv` (file, label, split); the path of an `.npz` file with
            `x_train`, `y_train`, ..; or a `Source`, which is returned as it is and takes no options.
        modality: key of `MODALITIES`; None to recognise it.
        data_dir: of tensorflow-datasets; None for its own default.
        image_size: H = W or (H, W) that pictures are resized to; None for their own size where all have the same
            one of at most 96 pixels each way, and 64 otherwise.
        sample_rate, clip_seconds: of sounds, see `choose_audio_shape`.
        frame_size, num_frames, frame_rate: of films, see `choose_film_shape`, and `choose_audio_video_shape`.
        num_points: of clouds, see `choose_points_shape`.
        shape: of one example, see `Modality`, in place of what would be chosen: that of an earlier load.
        strict: whether anything that would be skipped is an error.
        splits: splits that were made earlier, `Source.made_splits`; used instead of making them.
        console: `rich.console.Console` for progress bars; None for none.

    Returns:
        `Source`.

    Raises:
        InputError: where the data are unknown or cannot be used, with the nearest names.
    """
    options = {"modality": modality, "image_size": image_size, "shape": shape, "splits": splits}
    of_files = {
        "sample_rate": sample_rate,
        "clip_seconds": clip_seconds,
        "frame_size": frame_size,
        "num_frames": num_frames,
        "frame_rate": frame_rate,
        "num_points": num_points,
    }
    if isinstance(data, Source):
        others = {**options, **of_files, "data_dir": data_dir, "strict": strict or None}
        given = [name for name, value in others.items() if value is not None]
        require(not given, "A `Source` is taken as it is, without other options", options=given)
        return data
    require(isinstance(data, (str, Path)), "`data` must be a name, a path or a `Source`", data=type(data).__name__)
    if modality is not None:
        require_one_of(MODALITIES, modality=modality)
    is_name = str(data) in SOURCES or str(data).startswith("tfds:")
    if str(data) in SOURCES or os.path.isfile(data):
        _refuse(of_files, "image")  # they hold pictures
    if str(data) in SOURCES:
        source = SOURCES[str(data)]()
        return source if (shape or image_size) is None else _resized(source, shape, image_size)
    if is_name:
        source = _load_catalogue(str(data), data_dir=data_dir, console=console, **options, **of_files)
    elif os.path.isdir(data):
        source = _load_folder(Path(data), console=console, **options, **of_files)
    elif os.path.isfile(data):
        source = _load_npz(Path(data), **options)
    else:
        known = f"{', '.join(sorted(SOURCES))}, tfds:NAME, a folder, or an .npz file"
        require(
            False,
            f"`data` must be one of the known data sets: {known}",
            data=str(data),
            repair=nearest(data, [*SOURCES, *_neighbours(Path(data))]),
        )
    if strict:
        source.report.require_none()
    return source


def find_modality(data, modality=None, data_dir=None):
    """The modality that `load_source` would find, before examples are read; None where it knows no such data.

    Args:
        data, data_dir: see `load_source`.
        modality: key of `MODALITIES` that is asked for; None for none.
    """
    if str(data).startswith("tfds:"):
        return find_catalogue_modality(str(data).removeprefix("tfds:"), data_dir)
    if os.path.isdir(data):
        return list_folder(Path(data), modality).modality
    return "image" if str(data) in SOURCES or os.path.isfile(data) else None


def dataset_source(datasets, *, class_names=None, name="data", image_size=None, seed=SPLIT_SEED):
    """A `Source` of a user's own data sets, for `train` in place of a name.

    Args:
        datasets: `{"train": tf.data.Dataset, ..}` with "validation" and "test" if there are any, of examples (x, y)
            that are not batched: x (H, W) or (H, W, 1 or 3) in [0, 255], all of one size; y a whole number or a string,
            one-hot, or 0 and 1 for each of several labels. They are read into memory once.
        class_names: one string per class, in the order of the numbers; None to use the labels.
        name: of the data set: of its run folder and its export.
        image_size: see `load_source`.
        seed: of the splits that have to be made.

    Returns:
        `Source`.
    """
    return _from_arrays(
        read_datasets(datasets), class_names, name=name, data=None, image_size=image_size, seed=seed, notes=()
    )


def load_digits():
    """The 1,797 handwritten digits that come with scikit-learn, 8x8 grey, as uint8 in [0, 255].

    A stratified fifth is the test split; a tenth of what is left is the validation split: those of scikit-learn, which
    the published figures stand on.
    """
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    images, labels = load(return_X_y=True)
    pixels = np.rint(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)  # stored as 0 .. 16
    rest, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0)
    train, validation = train_test_split(rest, test_size=0.1, stratify=labels[rest], random_state=0)
    whole = Split(pixels, labels.astype(np.int32), tuple(f"digits/{i}" for i in range(len(labels))))
    parts = zip(SPLITS, (train, validation, test), strict=True)
    return Source(
        name="digits",
        modality="image",
        class_names=tuple("0123456789"),
        splits={name: whole.take(np.sort(part)) for name, part in parts},
        data="digits",
        preset="digits",
    )


SOURCES = {"digits": load_digits}


def _refuse(options, modality):
    """Requires that no option was given that the modality has no use for."""
    given = [name for name, value in options.items() if value is not None and name not in MODALITIES[modality].options]
    require(not given, f"These options are not for data of the modality {modality!r}", options=given)


def _load_folder(folder, *, modality, shape, splits, console, **asked):
    """The files of a folder; each is opened once before anything is trained."""
    listing = list_folder(folder, modality)
    kind = MODALITIES[listing.modality]
    _refuse(asked, kind.name)
    facts, broken, notes = scan_files(folder, [item.path for item in listing.items], kind.name, console)
    notes = [*listing.notes, *notes]
    items = [item for item in listing.items if item.path in facts]
    problems = [*listing.problems, *broken]
    class_names = sorted({label for item in items for label in item.labels})
    for name in sorted({label for item in listing.items for label in item.labels} - set(class_names)):
        problems.append(Problem("empty class", name, "holds no file that can be used"))
    if listing.hidden:
        notes.append(f"hidden files or folders were ignored: {some_of(listing.hidden)}")
    require(
        bool(items),
        "`data` must hold at least one file that can be read",
        data=str(folder),
        repair=". ".join(Report(tuple(problems)).lines()),
    )
    inner = f"Is it the folder {str(folder / class_names[0])!r} that you mean?"
    check_classes(class_names, inner if os.path.isdir(folder / class_names[0]) else "")
    found = [facts[item.path] for item in items]
    shape = tuple(shape or kind.choose_shape(found, **{name: asked[name] for name in kind.options}))
    notes += kind.notes(found, shape)
    notes += broken_off_notes([item.path for item in items if facts[item.path].get("is_broken_off")])
    root = folder.resolve()

    def fetch(path, **crop):
        return kind.read(root / path, shape, **crop)

    whole = Split(
        Lazy(fetch, [item.path for item in items], *kind.array(shape), kind.reads_parts),
        _labels(items, class_names),
        tuple(item.path for item in items),
        tuple(facts[item.path] for item in items),
    )
    given = {}
    for name in SPLITS:
        members = [i for i, item in enumerate(items) if (item.split or "train") == name]
        if members:
            given[name] = whole.take(members)
    require("train" in given, "`data` must have training examples", data=str(folder))
    return finished(
        given,
        name=root.name,
        data=str(root),
        modality=kind.name,
        class_names=class_names,
        problems=problems,
        notes=notes,
        recorded=splits,
        shape=shape,
    )


def _labels(items, class_names):
    """(n,) int32, or (n, classes) of 0 and 1 where any file has several labels."""
    numbers = {name: i for i, name in enumerate(class_names)}
    if all(len(item.labels) == 1 for item in items):
        return np.array([numbers[item.labels[0]] for item in items], np.int32)
    labels = np.zeros((len(items), len(class_names)), np.int32)
    for row, item in zip(labels, items, strict=True):
        row[[numbers[name] for name in item.labels]] = 1
    return labels


def _load_npz(path, *, modality, image_size, shape, splits):
    require(path.suffix == ".npz", "A file of data must be an .npz file", data=str(path))
    require_one_of((None, "image"), modality=modality)
    arrays, class_names = read_npz(path)
    return _from_arrays(
        arrays,
        class_names,
        name=path.stem,
        data=str(path.resolve()),
        image_size=image_size,
        shape=shape,
        recorded=splits,
    )


def _from_arrays(arrays, class_names, *, name, data, image_size=None, shape=None, **more):
    splits, class_names = image_splits(arrays, class_names)
    check_classes(class_names)
    source = finished(splits, name=name, data=data, modality="image", class_names=class_names, **more)
    return _resized(source, shape, image_size)


def _resized(source, shape, image_size):
    """The source with examples of the shape that is asked for, or that suits them."""
    kind = MODALITIES[source.modality]
    arrays = [split.examples for split in source.splits.values()]
    if shape is None:
        # Whether an array is grey is looked up where it has colours; its size is that of all of them.
        grey = all(a.shape[-1] == 1 or bool((a[..., :1] == a[..., 1:]).all()) for a in arrays)
        shape = kind.choose_shape([{"size": arrays[0].shape[1:3], "grey": grey}], image_size)
    shape = tuple(shape)
    if shape == source.example_shape:
        return source
    splits = {}
    for name, split in source.splits.items():
        facts = tuple(in_parallel(kind.facts_of, split.examples, "examining"))  # of what is stored
        pixels = in_parallel(lambda x: kind.resize(x, shape), split.examples, "resizing")
        splits[name] = dataclasses.replace(split, examples=np.stack(list(pixels)), facts=facts)
    return dataclasses.replace(source, splits=splits)


def _load_catalogue(data, *, data_dir, modality, shape, splits, console, **asked):
    name = data.removeprefix("tfds:")
    modality, shape, found, class_names, notes, problems = read_catalogue(
        name, modality=modality, data_dir=data_dir, shape=shape, console=console, **asked
    )
    check_classes(class_names)
    return finished(
        found,
        name=name,
        data=data,
        modality=modality,
        class_names=class_names,
        problems=problems,
        notes=notes,
        recorded=splits,
        data_dir=None if data_dir is None else str(Path(data_dir).resolve()),
        shape=shape,
    )


def _neighbours(path):
    """Names beside a path that does not exist."""
    try:
        return [str(p) for p in path.parent.iterdir() if p.name[0] != "."] if path.parent.is_dir() else []
    except OSError:
        return []
