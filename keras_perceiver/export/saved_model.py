"""A model -> a versioned SavedModel that takes raw arrays, or files."""

import time

import tensorflow as tf

from keras_perceiver._checks import require
from keras_perceiver.export.endpoints import Served, write_endpoints
from keras_perceiver.export.parity import (
    REPORT,
    FreshProcess,
    batch_sizes_of,
    compare,
    require_parity,
)
from keras_perceiver.export.shelf import (
    DESCRIPTION,
    MODEL_CARD,
    Export,
    check_name,
    describe_export,
    model_card,
    new_version,
    write_json,
)
from keras_perceiver.export.warm_up import WARM_UP, write_warm_up

TOLERANCE = 1e-5  # of the largest difference from the live model, as a share of the largest value


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
    xla=False,
    examples=None,
    provenance=None,
):
    """Exports a classifier to `<shelf>/<name>/<version>/`, the layout of TF Serving.

    Endpoints, each with an open batch and with float32 outputs by name, see `Served`:

    - `serving_default` takes raw arrays: of pictures `image`, (B, H, W, c) float32 in [0, 255]; of sounds `samples`,
      (B, window) float32 in [-1, 1] at the model's rate, and `length`, (B,) int32, how many of them are real. It
      returns `logits` and `probabilities`, (B, classes).
    - `from_bytes`, for pictures and sounds, takes `encoded`, (B,) files (JPEG, PNG, GIF, BMP and WebP, or WAV), and
      returns `valid`, (B,) bool, as well: where a file cannot be read, its row is zero.
    - `embed`, of a Perceiver, takes raw arrays and returns `latent_array`, (B, N, D), and `latent_mean`, (B, D).
    - `serving_xla`, with `xla`, is `serving_default` compiled by XLA, for each batch size when it is first asked for.
      A server must be started with `--xla_cpu_compilation_enabled`, or it does not load the model at all, as it cannot
      be warmed up; `write_serving_config` sees to it. The other endpoints are without XLA.

    A batch may be empty. A number that is not finite makes the answer of its own example not finite.

    Preprocessing is part of the graph; Python of this package is not. The model is served in float32, whatever its
    dtype policy. Beside the graph lie a description, a model card, warm-up requests and the report of the gate: before
    the export is put in its place it must give the live model's answers in a process of its own, see `parity`. The
    version is one more than the highest on the shelf; the folder is written beside its place and renamed into it, as a
    server may be watching.

    Args:
        model: a classifier of the modality, as `build_classifier` makes it.
        name: of the model on the shelf: letters, digits, `.`, `_`, `-`.
        class_names: one string per logit.
        shelf: the folder that holds exported models.
        modality: key of `MODALITIES`.
        shape: how examples enter the model, see `Modality`; None for the shape of its one input.
        settings: dictionary of arguments of the modality's `preprocess`: those of the training.
        multi_label: whether probabilities are each class' own, and do not sum to one.
        xla: whether there is an endpoint that XLA compiles.
        examples: `{input: (n, ..)}` raw examples for the gate, held out from training; None for noise.
        provenance: dictionary of what JSON can hold: `data`, `configuration`, `metrics`, `licence`.

    Returns:
        `Export`: `folder`, that of the new version, and the `report` of the gate.

    Raises:
        InputError: where `name` could leave the shelf, the model has not as many logits as there are class names, or
            the export answers otherwise than the live model; nothing is left on the shelf then.
    """
    check_name(name)
    served = Served(model, modality=modality, shape=shape, settings=settings, multi_label=multi_label)
    module, endpoints = served.module(xla)
    description = {**describe_export(served, name, class_names, provenance), "endpoints": list(endpoints)}
    FreshProcess.of("saved_model")  # starts while the model is written
    with new_version(shelf, name) as (folder, published):
        write_endpoints(folder, module, endpoints)
        extra = folder / "assets.extra"
        extra.mkdir()
        write_json(extra / DESCRIPTION, description)
        write_warm_up(extra / WARM_UP, name, served, endpoints)
        report = _passed(served, endpoints, folder, examples)
        write_json(extra / REPORT, report)
        card = model_card(description, served.describe(endpoints), Export(folder, report).lines())
        (folder / MODEL_CARD).write_text(card)
    return Export(published[0], report)


def _passed(served, endpoints, folder, examples):
    """The report of the gate; an `InputError` where the export does not pass it."""
    began = time.monotonic()
    sizes = batch_sizes_of(served, endpoints)
    is_noise, count = examples is None, max(map(sum, sizes.values()))
    examples = served.noise(count) if is_noise else _repeated(examples, count)
    report, _, _ = compare("saved_model", folder, served, examples, TOLERANCE, sizes)
    require_parity(report, "The SavedModel")
    return {**report, "examples": "noise" if is_noise else "held-out", "seconds": round(time.monotonic() - began, 1)}


def _repeated(examples, count):
    """So many examples, over again where there are fewer."""
    given = len(next(iter(examples.values())))
    require(given > 0, "`examples` must hold at least one example", examples=given)
    return {name: tf.gather(values, tf.range(count) % given).numpy() for name, values in examples.items()}
