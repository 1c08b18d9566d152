"""Beginning from the weights of another model, and leaving some as they are."""

import fnmatch
import hashlib
from dataclasses import dataclass
from pathlib import Path

import keras

from keras_perceiver._checks import nearest, require
from keras_perceiver.data.reports import some_of
from keras_perceiver.models.saved import load_saved
from keras_perceiver.training.runs import Run
from keras_perceiver.training.state import named_values, newest_file, newest_state


@dataclass(frozen=True)
class Initial:
    """Where weights come from.

    Attributes:
        file: a `.keras` file, or the newest checkpoint of an unfinished run.
        class_names: of the run that it belongs to; None where they are not known.
    """

    file: Path
    class_names: tuple[str, ...] | None

    def description(self):
        """What identifies the weights in the configuration of a run."""
        with self.file.open("rb") as file:
            return {"file": str(self.file), "digest": hashlib.file_digest(file, "sha256").hexdigest()[:16]}

    def values(self):
        """`{path of a weight: array}`."""
        if self.file.suffix == ".keras":
            return dict(named_values(load_saved(self.file).weights))
        return dict(newest_state(self.file.parent, lambda text: None).groups["model"])


def find_initial(path):
    """The weights of a run, finished or not, or of a `.keras` file.

    Raises:
        InputError: where there are none.
    """
    path = Path(path)
    if path.is_file():
        return Initial(path, None)
    run = Run(path)
    file = run.model_path if run.model_path.is_file() else newest_file(run.checkpoint_folder)
    require(
        file is not None,
        "`init` must be a `.keras` file, or the folder of a run with a model or a checkpoint in it",
        init=str(path),
    )
    return Initial(file, tuple(run.config()["source"]["class_names"]) if run.has_begun else None)


def take_weights(model, initial, class_names=None):
    """Puts weights into a model wherever there is one of the same name and shape.

    Fourier positions have no weights: a model for another size of picture takes all of them. The logits of other
    classes are not taken, though there may be as many of them.

    Args:
        model: a `keras.Model`.
        initial: see `find_initial`.
        class_names: of the model; None where they are not known.

    Returns:
        A sentence on what was taken and what is new.

    Raises:
        InputError: where no weight fits.
    """
    values = initial.values()
    has_other_classes = None not in (class_names, initial.class_names) and tuple(class_names) != initial.class_names
    new, taken = [], 0
    for weight in model.weights:
        value = values.get(weight.path)
        is_head = has_other_classes and weight.path.startswith("logits/")
        if value is None or value.shape != tuple(weight.shape) or is_head:
            new.append(weight.path)
            continue
        weight.assign(keras.ops.cast(value, weight.dtype))
        taken += 1
    require(
        taken > 0,
        "`init` must hold weights of the model's names and shapes",
        init=str(initial.file),
        its=list(values)[:3],
        wanted=[weight.path for weight in model.weights][:3],
    )
    return f"{taken} of {len(model.weights)} weights from {initial.file}; new: {some_of(new) if new else 'none'}"


def freeze(model, patterns):
    """Keeps layers from being trained: call it before `compile`.

    Args:
        model: a `keras.Model`.
        patterns: names of layers, with `*` for any characters.

    Returns:
        The names of the frozen layers.

    Raises:
        InputError: where a pattern fits no layer with weights, or nothing is left to be trained.
    """
    names = [layer.name for layer in model.layers if layer.weights]
    for pattern in patterns:
        require(
            fnmatch.filter(names, pattern),
            "`freeze` must hold names of layers with weights",
            freeze=pattern,
            repair=nearest(pattern, names) or f"There are {', '.join(names)}.",
        )
    frozen = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    for name in frozen:
        model.get_layer(name).trainable = False
    require(model.trainable_weights, "`freeze` must leave a layer to be trained", freeze=list(patterns))
    return frozen
