"""A model -> a versioned SavedModel that takes raw images or sounds."""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path

import keras
import tensorflow as tf

import keras_perceiver
from keras_perceiver._checks import require
from keras_perceiver.data import MODALITIES

DESCRIPTION = "perceiver.json"  # in `assets.extra/`, which TensorFlow leaves alone


def export_saved_model(
    model,
    name,
    class_names,
    *,
    shelf="saved_models",
    modality="image",
    shape=None,
    settings=None,
    multi_label=False,
):
    """Exports a classifier to `<shelf>/<name>/<version>/`, the layout of TF Serving.

    `serving_default` takes `image`, (B, H, W, c) float32 in [0, 255]; or, of sounds, `samples`, (B, window) float32 in
    [-1, 1] at the model's rate, and `length`, (B,) int32, how many of them are real. It returns `logits` and
    `probabilities`, (B, classes) float32. Preprocessing is part of the graph; Python of this
    package is not. The version is one more than the highest on the shelf; the folder is written beside its place and
    renamed into it, as a server may be watching.

    Args:
        model: a classifier of the modality, as `build_classifier` makes it.
        name: of the model on the shelf: letters, digits, `.`, `_`, `-`.
        class_names: one string per logit.
        shelf: the folder that holds exported models.
        modality: key of `MODALITIES`.
        shape: how examples enter the model, see `Modality`; None for the shape of its one input.
        settings: dictionary of arguments of the modality's `preprocess`: those of the training.
        multi_label: whether probabilities are each class' own, and do not sum to one.

    Returns:
        `pathlib.Path` of the new version.

    Raises:
        InputError: where `name` could leave the shelf, or the model has not as many logits as
            there are class names.
    """
    require(
        re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is not None,
        "`name` must begin with a letter or digit and consist of letters, digits, '.', '_' and '-'",
        name=name,
    )
    require(
        model.output_shape[-1] == len(class_names),
        "`class_names` must hold one name per logit",
        class_names=len(class_names),
        logits=model.output_shape[-1],
    )
    kind = MODALITIES[modality]
    shape = tuple(shape or model.input_shape[1:])
    home = Path(shelf) / name
    home.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=home))
    try:
        inputs = kind.served(shape)
        _write(model, temporary, inputs, kind.preprocess(shape, **(settings or {})), multi_label)
        description = {
            "name": name,
            "modality": modality,
            "input": {"name": next(iter(inputs)), "shape": list(shape), "range": list(kind.range)},
            "class_names": list(class_names),
            "multi_label": multi_label,
            "keras_perceiver": keras_perceiver.__version__,
        }
        (temporary / "assets.extra").mkdir()
        (temporary / "assets.extra" / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
        temporary.chmod(0o755)
        return _publish(temporary, home)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def versions(home):
    """The versions that lie in the folder of a model, ascending."""
    return sorted(int(p.name) for p in Path(home).iterdir() if p.is_dir() and p.name.isdigit())


def _write(model, folder, inputs, preprocess, multi_label):
    def serving_default(inputs):
        raw = inputs if len(inputs) > 1 else next(iter(inputs.values()))
        logits = tf.cast(model(preprocess(raw), training=False), tf.float32)
        return {"logits": logits, "probabilities": tf.nn.sigmoid(logits) if multi_label else tf.nn.softmax(logits)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = {n: tf.TensorSpec((None, *shape), dtype, name=n) for n, (shape, dtype) in inputs.items()}
    archive.add_endpoint("serving_default", serving_default, input_signature=[signature])
    archive.write_out(folder, verbose=False)


def _publish(temporary, home):
    """Renames a finished export to the next version; another process may be doing the same."""
    while True:
        version = home / str(max(versions(home), default=0) + 1)
        try:
            os.rename(temporary, version)  # fails where the folder exists and is not empty
        except OSError:
            if not version.exists():
                raise
        else:
            return version
