"""A model -> a LiteRT file for telephones and small computers, measured before it is kept."""

import importlib.util
import os
import re
import sys
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass

import tensorflow as tf

from keras_perceiver._checks import InputError, require, require_above, require_one_of
from keras_perceiver.export.benchmark import time_model
from keras_perceiver.export.endpoints import Served, write_endpoints
from keras_perceiver.export.parity import REPORT, compare, require_parity
from keras_perceiver.export.shelf import (
    DESCRIPTION,
    LITERT_FILE,
    MODEL_CARD,
    Export,
    check_name,
    describe_export,
    model_card,
    new_version,
    write_json,
)

_PRODUCTS = ("FULLY_CONNECTED", "CONV_2D")  # what dense layers and convolutions become
THREADS = (1, 2)  # with which the latency is measured
SECONDS = 0.5  # for each
BATCH = 32  # examples that are compared at once


@dataclass(frozen=True)
class Limits:
    """What a file may lose: `tolerance`, the largest difference of a logit from the float32 model, as a share of the
    largest logit; `points`, of accuracy (or mean average precision), in hundredths."""

    tolerance: float
    points: float


# By what is quantised. Arrays go in and come out in float32 with all of them.
QUANTIZE = {
    "none": Limits(1e-4, 0.1),
    "float16": Limits(1e-2, 0.2),  # weights
    "dynamic": Limits(0.25, 1.0),  # weights in int8; sums are quantised as they come
    "int8": Limits(0.25, 1.0),  # products of dense layers and convolutions: weights, what goes in, what comes out
}


def export_litert(
    model,
    name,
    class_names,
    *,
    quantize="none",
    shelf="saved_models",
    modality="image",
    shape=None,
    settings=None,
    multi_label=False,
    examples=None,
    figure=None,
    calibration=None,
    provenance=None,
    max_points_lost=None,
):
    """Exports a classifier to `<shelf>/<name>-litert[-<quantize>]/<version>/model.tflite`.

    The file has one signature, `serving_default`: raw arrays in, as of `export_saved_model`, and `logits` and
    `probabilities` out, all with an open batch; it consists of LiteRT's built-in operators alone, and preprocessing is
    part of it. Before it is kept it is run by `ai_edge_litert`, in a process without TensorFlow, and compared with the
    model. A description, a card and a report lie beside it: size, latency, largest difference, figures.

    Args:
        model, name, class_names, shelf, modality, shape, settings, multi_label, provenance: see `export_saved_model`.
        quantize: key of `QUANTIZE`: "none", "float16", "dynamic" or "int8".
        examples: `{input: (n, ..)}` raw examples that the file is measured with; None for noise.
        figure: function of logits (n, classes) that returns the accuracy, or what stands for it, from 0 to 1; None
            for the share of examples whose best class is the model's.
        calibration: `{input: (n, ..)}` raw training examples, from which "int8" learns the ranges of its numbers.
        max_points_lost: hundredths of that figure that the file may lose; None for those of `QUANTIZE`.

    Returns:
        `Export`.

    Raises:
        InputError: where `ai_edge_litert` is not installed, the model cannot be converted, or the file differs or loses
            more than it may, with the figures; nothing is left on the shelf then.
    """
    check_name(name)
    require_one_of(QUANTIZE, quantize=quantize)
    require_runtime()
    require(
        quantize != "int8" or calibration is not None,
        '`calibration` must be given for `quantize="int8"`',
        calibration=calibration,
    )
    limits = QUANTIZE[quantize]
    if max_points_lost is not None:
        require_above(0, max_points_lost=max_points_lost)
        limits = Limits(limits.tolerance, max_points_lost)
    served = Served(model, modality=modality, shape=shape, settings=settings, multi_label=multi_label)
    home = f"{name}-litert" if quantize == "none" else f"{name}-litert-{quantize}"
    description = {**describe_export(served, home, class_names, provenance), "quantize": quantize}
    with new_version(shelf, home) as (folder, published):
        (folder / LITERT_FILE).write_bytes(convert(served, quantize, calibration))
        report = _measured(served, folder, examples, figure, limits)
        write_json(folder / DESCRIPTION, description)
        write_json(folder / REPORT, report)
        card = model_card(description, served.describe(["serving_default"]), Export(folder, report).lines())
        (folder / MODEL_CARD).write_text(card)
    return Export(published[0], report)


def require_runtime():
    """Requires the package that runs LiteRT files."""
    require(
        importlib.util.find_spec("ai_edge_litert") is not None,
        "LiteRT files must be run before they are kept, and `ai_edge_litert` is not installed",
        repair="`pip install keras-perceiver[litert]` brings it.",
    )


def convert(served, quantize, calibration=None):
    """The bytes of a LiteRT file."""
    try:
        with tempfile.TemporaryDirectory() as folder, _quietly():
            module, endpoints = served.module()
            write_endpoints(folder, module, {"serving_default": endpoints["serving_default"]})
            converter = _converter(folder, quantize, calibration)
            return _in_int8(converter, served.model) if quantize == "int8" else converter.convert()
    except Exception as error:  # the converter has an error for everything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"The model cannot be converted to LiteRT's built-in operators with quantize={quantize!r}. {reason}"
        ) from error


def _converter(folder, quantize, calibration):
    """The converter of a SavedModel, set to what is to be quantised."""
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantize != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
        count = len(next(iter(calibration.values())))
        converter.representative_dataset = lambda: (
            {name: values[i : i + 1] for name, values in calibration.items()} for i in range(count)
        )
    return converter


def _in_int8(converter, model):
    """The bytes of a file whose dense layers and convolutions take, hold and give int8.

    Everything else stays in float32: preprocessing, scores, softmax, normalisation, residual sums, the class scores.
    In int8 they cost accuracy (a variance of 8 bits under a square root), and have few of the products.
    """
    from ai_edge_litert import schema_py_generated as schema  # of the extra "litert"

    kept = [name for name in vars(schema.BuiltinOperator) if name.isupper() and name not in _PRODUCTS]
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=kept)
    debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_options=options)
    options.denylisted_nodes = _products_outside_layers(debugger.calibrated_model, model, schema)
    return debugger.get_nondebug_quantized_model()


def _products_outside_layers(content, model, schema):
    """Names of products in a file that are not a dense layer's or convolution's own, such as those of attention."""
    names = {re.escape(weight.path.split("/")[-2]) for weight in model.weights if weight.name == "kernel"}
    own = re.compile(rf"/({'|'.join(names)})(_\d+)?/")  # TensorFlow numbers the calls of a layer
    file = schema.ModelT.InitFromPackedBuf(content)
    codes = {getattr(schema.BuiltinOperator, name) for name in _PRODUCTS}
    products = {i for i, operator in enumerate(file.operatorCodes) if operator.builtinCode in codes}
    outputs = (
        graph.tensors[op.outputs[0]].name.decode()
        for graph in file.subgraphs
        for op in graph.operators or ()
        if op.opcodeIndex in products
    )
    return [name for name in outputs if not own.search(name)]


def _measured(served, folder, examples, figure, limits):
    """The report of the gate; an `InputError` where the file does not pass it."""
    is_noise = examples is None
    examples = served.noise(BATCH) if is_noise else examples
    count = len(next(iter(examples.values())))
    require(count > 0, "`examples` must hold at least one example", examples=count)
    sizes = [size for size, least in ((1, 2), (3, 4)) if count >= least]
    while count > sum(sizes):
        sizes.append(min(BATCH, count - sum(sizes)))
    report, answers, expected = compare(
        "litert", folder, served, examples, limits.tolerance, {"serving_default": sizes}
    )
    require_parity(report, "The LiteRT file")
    live, found = expected["serving_default"]["logits"], answers["serving_default"]["logits"]
    name = "accuracy or mean average precision"
    if figure is None:
        name, best = "best class as the model's", live.argmax(axis=1)

        def figure(logits):
            return float((logits.argmax(axis=1) == best).mean())

    reached, of_model = figure(found), figure(live)
    report |= {
        "bytes": (folder / LITERT_FILE).stat().st_size,
        "logit_difference": report["endpoints"]["serving_default"]["logits"]["relative"],
        "examples": "noise" if is_noise else "held-out",
        "num_examples": count,
        "figure_name": name,
        "figure": reached,
        "model_figure": of_model,
        "points_lost": 100 * (of_model - reached),
        "points_allowed": limits.points,
        "latency": {str(threads): _latency(folder, examples, threads) for threads in THREADS},
    }
    require(
        report["points_lost"] <= limits.points,
        f"The LiteRT file must lose at most {limits.points:g} points and was removed",
        points_lost=round(report["points_lost"], 2),
        repair=f"{'; '.join(Export(folder, report).lines())}.",
    )
    return report


def _latency(folder, examples, threads):
    """Milliseconds of one example: `median`, `p90`, `p99`, and `calls`, how many were timed."""
    one = {name: values[:1] for name, values in examples.items()}
    (timing,) = time_model(folder, "litert", threads, [1], SECONDS, one)
    return {name: getattr(timing, name) for name in ("median", "p90", "p99", "calls")}


@contextmanager
def _quietly():
    """Holds back what the converter prints past Python: progress, and warnings of its own interpreter."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as held_back, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter's own interpreter says that it is deprecated
        os.dup2(held_back.fileno(), 1)
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        finally:
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
