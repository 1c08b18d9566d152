"""Asks a SavedModel about pictures; only TensorFlow runs it, no Python of this package is in the graph."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_perceiver._checks import InputError, require, require_positive
from keras_perceiver.data.images import read_image
from keras_perceiver.export.saved_model import DESCRIPTION, versions

BATCH = 64  # files at once: bounds memory


@dataclass(frozen=True)
class Prediction:
    """What a model says of one file: `classes`, the best ones first, and their `probabilities`."""

    file: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


class SavedClassifier:
    """A classifier from `export_saved_model`, ready to be asked.

    Args:
        folder: `<shelf>/<name>/<version>/`, or `<shelf>/<name>/` for its newest version.

    Raises:
        InputError: where the folder is not such a SavedModel.
    """

    def __init__(self, folder):
        self.folder = _newest_version(Path(folder))
        try:
            description = json.loads((self.folder / "assets.extra" / DESCRIPTION).read_text())
            self.class_names = tuple(description["class_names"])
            self.input_shape = tuple(description["input"]["shape"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"`saved_model` must have been exported by keras-perceiver, with a readable "
                f"`assets.extra/{DESCRIPTION}`. Received: saved_model={str(folder)!r}. {error}"
            ) from error
        try:
            self._loaded = tf.saved_model.load(self.folder)
            self._endpoint = self._loaded.signatures["serving_default"]
        except (OSError, KeyError, tf.errors.OpError) as error:
            raise InputError(f"`saved_model` {str(self.folder)!r} must be whole. {error}") from error

    def logits(self, images):
        """(B, H, W, c) in [0, 255] -> (B, classes) float32."""
        return self._endpoint(image=tf.constant(images, tf.float32))["logits"].numpy()

    def probabilities(self, images):
        """(B, H, W, c) in [0, 255] -> (B, classes) float32, each row summing to one."""
        return self._endpoint(image=tf.constant(images, tf.float32))["probabilities"].numpy()


def predict(saved_model, files, *, top=3, invert=False):
    """The best classes for each picture.

    Args:
        saved_model: folder of a SavedModel, see `SavedClassifier`.
        files: paths of pictures; each is turned to the model's channels, size and range.
        top: how many classes to name per picture.
        invert: for dark ink on white, where the model has seen light ink on black.

    Returns:
        A list of `Prediction`, one per file.
    """
    require_positive(top=top)
    require(len(files) > 0, "`files` must name at least one picture", files=list(files))
    model = SavedClassifier(saved_model)
    rows = []
    for start in range(0, len(files), BATCH):
        some = files[start : start + BATCH]
        rows += list(model.probabilities(np.stack([read_image(f, model.input_shape, invert=invert) for f in some])))
    predictions = []
    for file, row in zip(files, rows, strict=True):
        best = np.argsort(-row, kind="stable")[:top]
        classes = tuple(model.class_names[i] for i in best)
        predictions.append(Prediction(str(file), classes, tuple(float(row[i]) for i in best)))
    return predictions


def _newest_version(folder):
    require(folder.is_dir(), "`saved_model` must be a folder", saved_model=str(folder))
    if (folder / "saved_model.pb").is_file():
        return folder
    numbers = versions(folder)
    require(
        bool(numbers) and (folder / str(numbers[-1]) / "saved_model.pb").is_file(),
        "`saved_model` must be the folder of a SavedModel, or of its versions",
        saved_model=str(folder),
        repair="`keras-perceiver train` exports one to saved_models/<name>/<version>/.",
    )
    return folder / str(numbers[-1])
