"""The models that are known by name, with what they cost and where they come from."""

from contextlib import contextmanager
from dataclasses import dataclass

import keras
from rich import box
from rich.table import Table

from keras_perceiver.inspection.describe import describe_model
from keras_perceiver.models import PRESETS, PROVENANCE, build_preset


@dataclass(frozen=True)
class PresetSummary:
    """A preset in figures: FLOPs of a forward pass of one example, matrix products only; and its provenance."""

    name: str
    input_shape: dict | tuple
    num_classes: int
    parameters: int
    textbook_flops: int
    flops: int
    source: str
    choices: dict[str, str]


def list_presets(names=tuple(PRESETS)):
    """Summaries of presets, all of them unless `names` are given.

    Models are built without memory for their weights. Keras' session is cleared afterwards, so this is not for the
    middle of a program that has models of its own; the global dtype policy is kept.
    """
    with _without_weights():
        return [_summary(name) for name in names]


def presets_table(summaries):
    """A `rich` table of summaries: an argument that is our choice stands in the last column, its reason in the JSON."""
    caption = (
        "GFLOP: one example, forward, textbook and as it is computed here. Source: Jaegle et al. 2021, or ours.\n"
        "ours: arguments of which the paper says nothing; `--json` gives the reason of each choice."
    )
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left")
    for column in ("model", "input"):
        table.add_column(column, no_wrap=True)
    for column in ("classes", "parameters", "textbook", "GFLOP"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("source")
    table.add_column("ours")
    for s in summaries:
        flops = (f"{value / 1e9:,.2f}" for value in (s.textbook_flops, s.flops))
        row = (s.name, _input(s.input_shape), f"{s.num_classes:,}", f"{s.parameters:,}", *flops)
        table.add_row(*row, s.source, ", ".join(s.choices))
    return table


def _summary(name):
    description = describe_model(build_preset(name))
    return PresetSummary(
        name,
        PRESETS[name]["input_shape"],
        PRESETS[name]["num_classes"],
        description.parameters,
        description.textbook_flops,
        description.flops,
        PROVENANCE[name].source,
        PROVENANCE[name].choices,
    )


def _input(shape):
    """`224x224x3`, or one line a modality."""
    if isinstance(shape, dict):
        return "\n".join(f"{modality} {_input(sizes)}" for modality, sizes in shape.items())
    return "x".join(str(size) for size in shape)


@contextmanager
def _without_weights():
    policy = keras.config.dtype_policy()
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        keras.utils.clear_session()  # otherwise Keras would make all the weights at the next occasion
        keras.config.set_dtype_policy(policy)
