"""Arrays in memory -> splits: `.npz` files and a user's own `tf.data.Dataset`s."""

import lzma
import zipfile
import zlib

import numpy as np
import tensorflow as tf

from keras_perceiver._checks import InputError, require
from keras_perceiver.data.folders import check_names
from keras_perceiver.data.splits import SPLITS, Split

MAX_BYTES = 2**33  # 8 GiB of arrays are held in memory at most
# What a file that is broken, encrypted or packed in an unknown way makes the readers raise.
NPZ_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def read_npz(path):
    """The arrays of an `.npz` file as Keras' own data sets name them.

    Args:
        path: of a file with `x_train` and `y_train`, and perhaps `x_test` and `y_test`, `x_validation` and
            `y_validation`, `class_names`. Nothing in it is executed: pickled objects are refused.

    Returns:
        `(arrays, class_names)`: `{split: (x, y)}`, and a list of strings or None.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        require(
            size <= MAX_BYTES, f"`data` must hold at most {MAX_BYTES:,} bytes of arrays", data=str(path), bytes=size
        )
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        for name, array in content.items():
            require(isinstance(array, np.ndarray), "`data` must hold nothing but arrays", data=str(path), member=name)
    except NPZ_ERRORS as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"`data` must be a readable .npz file of plain arrays. Received: data={str(path)!r}. {error}"
        ) from error
    arrays = {}
    for split in SPLITS:
        names = (f"x_{split}", f"y_{split}")
        given = [name in content for name in names]
        require(
            all(given) or not any(given), f"`{names[0]}` and `{names[1]}` must come together", found=sorted(content)
        )
        if all(given):
            arrays[split] = tuple(content[name] for name in names)
    require(
        "train" in arrays,
        "`data` must hold `x_train` and `y_train`, and may hold `x_test` and `y_test`",
        data=str(path),
        found=sorted(content),
    )
    names = content.get("class_names")
    return arrays, None if names is None else [str(name) for name in names.ravel()]


def read_datasets(datasets):
    """The examples of `{split: tf.data.Dataset of (x, y)}`, not batched, as arrays: `{split: (x, y)}`.

    They are read once into memory: data order and augmentation are functions of each example's index.
    """
    require(
        isinstance(datasets, dict) and "train" in datasets and set(datasets) <= set(SPLITS),
        f"`datasets` must be a dictionary with 'train' and perhaps others of {', '.join(SPLITS)}",
        datasets=list(datasets) if isinstance(datasets, dict) else type(datasets).__name__,
    )
    arrays, size = {}, 0
    for split, dataset in datasets.items():
        spec = getattr(dataset, "element_spec", None)
        require(
            isinstance(spec, tuple) and len(spec) == 2 and all(isinstance(part, tf.TensorSpec) for part in spec),
            "Each data set must be a `tf.data.Dataset` of (x, y), which are tensors",
            split=split,
            element_spec=spec,
        )
        numeric = spec[0].dtype.is_integer or spec[0].dtype.is_floating
        require(numeric, "x must be numbers", split=split, dtype=spec[0].dtype.name)
        require(
            dataset.cardinality() != tf.data.INFINITE_CARDINALITY,
            "Each data set must end",
            split=split,
            repair="Leave out `.repeat()`.",
        )
        xs, ys = [], []
        for x, y in dataset.as_numpy_iterator():
            xs.append(x)
            ys.append(y)
            size += x.nbytes
            require(
                size <= MAX_BYTES,
                f"`datasets` must hold at most {MAX_BYTES:,} bytes of examples, as they are kept in memory",
                repair="Write larger data into a folder of files; those are decoded as they are needed.",
            )
        require(len(xs) > 0, "Each data set must hold examples", split=split)
        require(
            len({x.shape for x in xs}) == 1,
            "Examples must have one shape, and must not come in batches",
            shapes=sorted({x.shape for x in xs})[:3],
            repair="Resize them, or use `.unbatch()`.",
        )
        arrays[split] = (np.stack(xs), np.stack(ys))
    return arrays


def image_splits(arrays, class_names=None):
    """`{split: (x, y)}` -> `({split: Split}, class_names)` of images, uint8 (n, H, W, c)."""
    labels, class_names = encode_labels({split: y for split, (_, y) in arrays.items()}, class_names)
    require(len(set(class_names)) == len(class_names), "`class_names` must be unique", class_names=list(class_names))
    check_names(class_names)
    splits = {}
    for split, (x, _) in arrays.items():
        pixels = as_pixels(x, split)
        require(len(pixels) == len(labels[split]), "x and y must have the same length", split=split, x=len(pixels))
        splits[split] = Split(pixels, labels[split], tuple(f"{split}/{i}" for i in range(len(pixels))))
    shapes = {split.examples.shape[1:] for split in splits.values()}
    require(len(shapes) == 1, "The pictures of all splits must have one shape", shapes=sorted(shapes))
    return splits, class_names


def as_pixels(x, name):
    """(n, H, W) or (n, H, W, 1 or 3) numbers in [0, 255] -> uint8 (n, H, W, c)."""
    legal = x.ndim in (3, 4) and (x.ndim == 3 or x.shape[-1] in (1, 3)) and min(x.shape) > 0 and x.dtype.kind in "uif"
    require(
        legal,
        "Pictures must be numbers of shape (n, H, W), (n, H, W, 1) or (n, H, W, 3)",
        split=name,
        shape=x.shape,
        dtype=str(x.dtype),
    )
    x = x[..., None] if x.ndim == 3 else x
    if x.dtype == np.uint8:
        return x
    low, high = x.min(), x.max()
    require(bool(np.isfinite(high)) and low >= 0 and high <= 255, "Pixels must lie in [0, 255]", low=low, high=high)
    require(
        x.dtype.kind != "f" or high > 1 or high == 0,
        "Pixels must lie in [0, 255], and these look as if they lay in [0, 1]",
        high=high,
        repair="Multiply them by 255.",
    )
    return np.rint(x).astype(np.uint8)


def encode_labels(ys, class_names=None):
    """Labels of all splits as `Split.labels`, and the names of the classes.

    Args:
        ys: `{split: y}`: (n,) or (n, 1) whole numbers or strings; or (n, classes) of 0 and 1, one-hot or several.
        class_names: one string per class, in the order of the numbers; None to use the labels as they are.
    """
    ys = {split: np.asarray(y) for split, y in ys.items()}
    ys = {split: y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y for split, y in ys.items()}
    shapes = {y.shape[1:] for y in ys.values()}
    legal = len(shapes) == 1 and all(y.ndim in (1, 2) and y.dtype.kind in "biufSU" for y in ys.values())
    require(legal, "Labels must be numbers or strings of shape (n,), or 0 and 1 of shape (n, classes)", shapes=shapes)
    require(
        all(y.size > 0 for y in ys.values()), "Every split must hold labels", sizes={s: y.size for s, y in ys.items()}
    )
    whole = np.concatenate(list(ys.values()))
    require(
        whole.dtype.kind != "f" or bool((np.isfinite(whole) & (whole == np.rint(whole))).all()),
        "Labels must be whole numbers",
        dtype=str(whole.dtype),
    )
    if whole.ndim == 2:
        require(set(np.unique(whole)) <= {0, 1}, "Labels of shape (n, classes) must be 0 or 1", shape=whole.shape)
        names = class_names or [str(i) for i in range(whole.shape[1])]
        require(len(names) == whole.shape[1], "`class_names` must hold a name per class", classes=whole.shape[1])
        one_hot = bool((whole.sum(axis=1) == 1).all())
        return {s: y.argmax(axis=1).astype(np.int32) if one_hot else y.astype(np.int32) for s, y in ys.items()}, names
    if class_names is None:
        values = np.unique(whole)
        names = [v.decode("utf-8", "replace") if isinstance(v, bytes) else _name(v) for v in values]
        return {s: np.searchsorted(values, y).astype(np.int32) for s, y in ys.items()}, names
    legal = whole.dtype.kind in "biuf" and whole.min() >= 0 and whole.max() < len(class_names)
    require(
        legal, "Labels must be numbers of `class_names`, from 0", classes=len(class_names), labels=whole[:3].tolist()
    )
    return {s: y.astype(np.int32) for s, y in ys.items()}, list(class_names)


def _name(value):
    return str(int(value)) if isinstance(value, (np.floating, np.integer, np.bool_)) else str(value)
