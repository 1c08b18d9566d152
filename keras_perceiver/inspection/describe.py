"""What a model consists of and what it costs: a table for people, JSON for programs."""

import json
import math
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
from rich import box
from rich.table import Table

from keras_perceiver._checks import nearest, require
from keras_perceiver.inspection.costs import item_bytes, layer_cost
from keras_perceiver.models import PRESETS, build_preset
from keras_perceiver.models.saved import load_saved


@dataclass(frozen=True)
class LayerSummary:
    """One layer, which a model may apply several times: FLOPs of all its `calls`, bytes of one; None where unknown."""

    name: str
    kind: str
    implementation: str | None
    calls: int
    output_shape: tuple
    parameters: int
    textbook_flops: int | None
    flops: int | None
    temporary_bytes: int | None


@dataclass(frozen=True)
class Description:
    """A model in figures, for one example: parameters, FLOPs of a forward pass, bytes."""

    name: str
    input_shape: dict | tuple
    parameters: int
    trainable_parameters: int
    parameter_bytes: int
    textbook_flops: int
    flops: int
    largest_temporary_bytes: int
    not_counted: tuple[str, ...]
    layers: tuple[LayerSummary, ...]

    def to_json(self):
        """The description as JSON text."""
        return json.dumps(asdict(self), indent=2)

    def table(self):
        """The description as a `rich` table."""
        table = Table(box=box.SIMPLE_HEAD, title=self.name, caption=self._caption(), caption_justify="left")
        for column in ("layer", "computed"):
            table.add_column(column, no_wrap=True)
        for column in ("calls", "output", "parameters", "textbook", "GFLOP", "MB held"):
            table.add_column(column, justify="right", no_wrap=True)
        for layer in self.layers:
            table.add_row(
                layer.name,
                layer.implementation or "",
                str(layer.calls),
                "x".join("B" if s is None else str(s) for s in layer.output_shape),
                f"{layer.parameters:,}",
                _scaled(layer.textbook_flops, 1e9),
                _scaled(layer.flops, 1e9),
                _scaled(layer.temporary_bytes, 1e6),
            )
        return table

    def _caption(self):
        lines = [
            f"parameters       {self.parameters:,} ({self.parameter_bytes / 1e6:,.1f} MB)",
            f"FLOPs textbook   {self.textbook_flops:,}",
            f"FLOPs actual     {self.flops:,}",
            f"held at most     {self.largest_temporary_bytes / 1e6:,.1f} MB beside weights, inputs and outputs",
            "one example, forward; a multiply and an add are two FLOPs, matrix products only",
        ]
        if self.not_counted:
            lines.append(f"not counted: {', '.join(self.not_counted)}")
        return "\n".join(lines)


def describe(model):
    """Describes a preset by its name, a run by its folder, or a `.keras` file by its path.

    Raises:
        InputError: where `model` is none of these.
    """
    if model in PRESETS:
        return describe_model(build_preset(model, name=model))
    path = Path(model)
    if (path / "model.keras").is_file():
        path = path / "model.keras"
    require(
        path.is_file() and zipfile.is_zipfile(path),
        f"`model` must be a preset ({', '.join(sorted(PRESETS))}), the folder of a finished run or a `.keras` file",
        model=str(model),
        repair=nearest(model, PRESETS),
    )
    return describe_model(load_saved(path))


def describe_model(model):
    """Describes a functional `keras.Model`.

    Returns:
        `Description`; the layers in the order in which they are applied.
    """
    calls = {}

    def record(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        if isinstance(layer, keras.layers.Layer):  # and not a slice, or another operation without weights
            calls.setdefault(layer.name, []).append((layer, [_shapes(a) for a in args], outputs))
        return outputs

    # Nothing is copied: the clone's layers are the model's own, each call of them passes through `record`.
    keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=record)
    layers = tuple(_summary(calls_of_layer) for calls_of_layer in calls.values())
    return Description(
        name=model.name,
        input_shape=_shapes(model.input),
        parameters=model.count_params(),
        trainable_parameters=sum(math.prod(w.shape) for w in model.trainable_weights),
        parameter_bytes=sum(math.prod(w.shape) * item_bytes(w.dtype) for w in model.weights),
        textbook_flops=sum(layer.textbook_flops or 0 for layer in layers),
        flops=sum(layer.flops or 0 for layer in layers),
        largest_temporary_bytes=max((layer.temporary_bytes or 0 for layer in layers), default=0),
        not_counted=tuple(layer.name for layer in layers if layer.flops is None),
        layers=layers,
    )


def _summary(calls):
    """All calls of one layer in one row."""
    layer, _, outputs = calls[0]
    costs = [layer_cost(layer, shapes) for _, shapes, _ in calls]
    known = None not in costs
    output = outputs["content"] if isinstance(outputs, dict) and "content" in outputs else outputs
    return LayerSummary(
        name=layer.name,
        kind=type(layer).__name__,
        implementation=getattr(layer, "chosen_implementation", None),
        calls=len(calls),
        output_shape=tuple(keras.tree.flatten(output)[0].shape),
        parameters=layer.count_params(),
        textbook_flops=sum(c.textbook_flops for c in costs) if known else None,
        flops=sum(c.flops for c in costs) if known else None,
        temporary_bytes=max(c.temporary_bytes for c in costs) if known else None,
    )


def _shapes(structure):
    return keras.tree.map_structure(lambda x: tuple(x.shape), structure)


def _scaled(number, unit):
    return "?" if number is None else f"{number / unit:,.3f}"
