"""Asks a SavedModel about files; only TensorFlow runs it, no Python of this package is in the graph."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_perceiver._checks import InputError, require, require_positive
from keras_perceiver.data import MODALITIES
from keras_perceiver.data.pipeline import fields
from keras_perceiver.export.client import ServedModel
from keras_perceiver.export.endpoints import read_clips
from keras_perceiver.export.shelf import VERSION, find_export, read_description, versions

BATCH = 64  # files at once, of which each is one example: bounds memory


@dataclass(frozen=True)
class Prediction:
    """What a model says of one file: `classes`, the best ones first, and their `probabilities`.

    Of a file that cannot be read there are none, and `problem` says why.
    """

    file: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    problem: str | None = None


class SavedClassifier:
    """A classifier from `export_saved_model`, ready to be asked.

    Args:
        folder: `<shelf>/<name>/<version>/`, or `<shelf>/<name>/` for its newest version.
        server: see `ServedModel`: who is asked in place of the SavedModel, which then says alone what the model takes
            and what its classes are called; None for none. Where `folder` is that of a version and no `version` is
            given, the server is asked for this one.
        connection: other arguments of `ServedModel`: `version`, `timeout`, `attempts`, `certificates`.

    Raises:
        InputError: where the folder is not such a SavedModel.
    """

    def __init__(self, folder, server=None, **connection):
        self.folder, artefact_format = find_export(folder, argument="saved_model")
        require(artefact_format == "saved_model", "`saved_model` must be a SavedModel", saved_model=str(folder))
        description = read_description(self.folder, artefact_format)
        if server is not None:
            given, asked = Path(folder).resolve(), connection.get("version")
            is_version = self.folder.resolve() == given and re.fullmatch(VERSION, given.name) is not None
            if is_version and asked is None:  # its names are not those of any other
                connection["version"] = int(given.name)
            elif not is_version or str(asked) != given.name:
                _require_alike(given.parent if is_version else given, description)
        try:
            self.class_names = tuple(description["class_names"])
            self.modality = MODALITIES[description["modality"]]
            self.is_multi_label = bool(description["multi_label"])
            self.input_shape = tuple(description["example_shape"])
        except (KeyError, TypeError) as error:
            raise InputError(f"The description of {str(folder)!r} must be keras-perceiver's own. {error!r}") from error
        require(server is not None or not connection, "These arguments are for `server`", arguments=sorted(connection))
        if server is None:
            self._ask = self._load()
        else:
            self._ask = ServedModel(server, description["name"], **connection).ask

    def logits(self, inputs):
        """What the model takes, an array such as (B, H, W, c) or `{input: array}` -> (B, classes) float32."""
        return self._answer(inputs)["logits"]

    def probabilities(self, inputs):
        """As `logits`, as probabilities: each row sums to one, unless an example may have several labels."""
        return self._answer(inputs)["probabilities"]

    def read(self, file, **options):
        """A file as the model is asked about it, `{input: (K, ..)}`: its K clips, or the whole of it.

        Raises:
            InputError: where it cannot be read; `options` are of the modality's reader.
        """
        return read_clips(self.modality, self.input_shape, file, **options)

    def probabilities_of(self, files):
        """(files, classes) of files as `read` returns them; the logits of several clips of one are averaged."""
        if self.modality.clip is None:
            return self.probabilities({name: np.concatenate([f[name] for f in files]) for name in files[0]})
        means = tf.stack([self.logits(clips).mean(axis=0) for clips in files])
        return (tf.nn.sigmoid(means) if self.is_multi_label else tf.nn.softmax(means)).numpy()

    def _answer(self, inputs):
        specs = self.modality.served(self.input_shape)
        inputs = inputs if isinstance(inputs, dict) else fields(np.asarray(inputs))
        inputs = inputs if isinstance(inputs, dict) else {next(iter(specs)): inputs}
        missing = [name for name in specs if name not in inputs]
        require(not missing, f"`inputs` must hold {', '.join(specs)}", missing=missing)
        arrays = {name: tf.cast(inputs[name], dtype).numpy() for name, (_, dtype) in specs.items()}
        for name, (shape, _) in specs.items():
            found = arrays[name].shape
            require(
                found[1:] == tuple(shape), f"`{name}` must be of shape (B, {', '.join(map(str, shape))})", shape=found
            )
        answer, expected = self._ask(arrays), (len(next(iter(arrays.values()))), len(self.class_names))
        answer = {name: np.asarray(value, np.float32) for name, value in answer.items()}  # by REST numbers have no type
        shapes = {name: np.shape(answer.get(name)) for name in ("logits", "probabilities")}
        legal = all(shape == expected for shape in shapes.values())
        require(legal, f"A model of {expected[1]} classes must answer with rows of as many numbers", **shapes)
        return answer

    def _load(self):
        """A function of `{input: array}` that asks the SavedModel here."""
        try:
            loaded = tf.saved_model.load(self.folder)
            endpoint = loaded.signatures["serving_default"]
        except (OSError, KeyError, tf.errors.OpError) as error:
            raise InputError(f"`saved_model` {str(self.folder)!r} must be whole. {error}") from error
        self._loaded = loaded  # which holds the weights

        def ask(inputs):
            answer = endpoint(**{name: tf.constant(value) for name, value in inputs.items()})
            return {name: value.numpy() for name, value in answer.items()}

        return ask


def _require_alike(home, description):
    """Requires that the version which a server has loaded, whichever it is, has the classes and the input of this
    description: those of the others on the shelf must be the same."""
    for number in versions(home):
        other = read_description(home / str(number), "saved_model")
        for name in ("class_names", "inputs"):
            require(
                other.get(name) == description.get(name),
                f"`saved_model` must be the folder of the version that the server has loaded: those in {str(home)!r} "
                f"differ in their {name.replace('_', ' ')}",
                version=number,
            )


def predict(saved_model, files, *, top=3, invert=False, server=None, **connection):
    """The best classes for each file. One that cannot be read costs the others nothing: its `problem` is said.

    Args:
        saved_model: folder of a SavedModel, see `SavedClassifier`.
        files: paths of what the model was trained on; each is turned to the model's channels, size or rate, and range.
            Of sounds, and of films at a rate, up to 16 clips are asked about, spread over the whole file, however long
            those of training were. Of more than a minute the first one is used, as in training; a warning says so.
        top: how many classes to name per file.
        invert: for dark ink on white, where the model has seen light ink on black.
        server, connection: see `SavedClassifier`.

    Returns:
        A list of `Prediction`, one per file.

    Raises:
        InputError: where no file can be read, the model cannot be asked, or an argument is illegal.
    """
    require_positive(top=top)
    require(len(files) > 0, "`files` must name at least one file", files=list(files))
    model = SavedClassifier(saved_model, server, **connection)
    is_picture = model.modality.name == "image"
    require(is_picture or not invert, "`invert` is for models of pictures", modality=model.modality.name)
    options, found = ({"invert": invert} if is_picture else {}), {}
    batch = BATCH if model.modality.clip is None else 1
    for start in range(0, len(files), batch):
        read = {}
        for number, file in enumerate(files[start : start + batch], start):
            try:
                read[number] = model.read(file, **options)
            except InputError as error:
                found[number] = Prediction(str(file), problem=str(error))
        rows = model.probabilities_of(list(read.values())) if read else ()
        for number, row in zip(read, rows, strict=True):
            best = np.argsort(-row, kind="stable")[:top]
            classes = tuple(model.class_names[i] for i in best)
            found[number] = Prediction(str(files[number]), classes, tuple(float(row[i]) for i in best))
    problems = [prediction.problem for prediction in found.values() if prediction.problem]
    if len(problems) == len(files):
        raise InputError(problems[0] if len(files) == 1 else f"None of {len(files)} files can be read. {problems[0]}")
    return [found[number] for number in range(len(files))]
