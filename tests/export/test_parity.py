"""The gate behind every export: what differs from the live model is removed, what is rounded otherwise is not."""

import importlib.util
import math
import re
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_perceiver._checks import InputError
from keras_perceiver.export import endpoints, export_saved_model, fresh_process, parity
from keras_perceiver.export.endpoints import Served
from keras_perceiver.export.fresh_process import C_API
from keras_perceiver.export.parity import FreshProcess
from keras_perceiver.export.shelf import Export
from tests.small_classifier import NAMES, SHAPE, small_classifier


def move_live_answers(monkeypatch, endpoint, output, share):
    """Has the live model answer otherwise than it does, by that share of each number."""
    real = parity.expected_answers

    def moved(served, inputs):
        answers = real(served, inputs)
        return {**answers, endpoint: answers[endpoint] | {output: answers[endpoint][output] * (1 + share)}}

    monkeypatch.setattr(parity, "expected_answers", moved)


def gate(model, folder):
    """The report of a SavedModel that lies there, beside the live answers of today."""
    served = Served(model, modality="image", shape=SHAPE, settings={})
    sizes = parity.batch_sizes_of(served, ["serving_default", "embed"])
    return parity.compare("saved_model", folder, served, served.noise(7), 1e-5, sizes)[0]


def test_an_export_that_answers_otherwise_is_removed(tmp_path, monkeypatch):
    """The gate must see it, and leave nothing behind."""
    move_live_answers(monkeypatch, "embed", "latent_mean", 1e-3)
    said = r"must answer as the live model does.*embed latent_mean 1\.0e-03 of 1e-04"
    with pytest.raises(InputError, match=said):
        export_saved_model(small_classifier(), "animals", NAMES, shelf=tmp_path)
    assert list((tmp_path / "animals").iterdir()) == []


def test_latents_may_differ_by_ten_times_as_much_as_logits(exported, monkeypatch):
    model, export = exported
    for endpoint, output, may in (("embed", "latent_array", True), ("serving_default", "logits", False)):
        with monkeypatch.context() as patched:
            move_live_answers(patched, endpoint, output, 3e-5)
            report = gate(model, export.folder)
        assert report["passed"] == may
        said = Export(export.folder, {**report, "examples": "noise"}).lines()[0]
        assert re.search(rf"live model: [23]\.\de-05 of the largest value, 1e-0{4 if may else 5} may be", said)


def test_probabilities_may_differ_by_what_logits_within_their_tolerance_make_of_them(tmp_path, monkeypatch):
    """Of a model that is sure, with large logits, by a larger share than the logits themselves."""
    real, model = parity.expected_answers, small_classifier()
    head = model.get_layer("logits")
    head.kernel.assign(head.kernel / 100)
    head.bias.assign([20.0, 19.5, -20.0])

    def moved(served, inputs):
        answers = real(served, inputs)
        logits = answers["serving_default"]["logits"]
        logits = logits + 8e-6 * np.abs(logits).max() * np.array([1, -1, 1], np.float32)
        return {**answers, "serving_default": parity._with_probabilities(served, logits)}

    monkeypatch.setattr(parity, "expected_answers", moved)
    export = export_saved_model(model, "animals", NAMES, shelf=tmp_path)
    report = export.report["endpoints"]["serving_default"]
    assert report["logits"]["relative"] < report["logits"]["tolerance"] == 1e-5 < report["probabilities"]["relative"]
    largest = report["logits"]["largest_value"]
    assert largest > 15
    assert report["probabilities"]["tolerance"] == pytest.approx(2e-5 * largest, rel=0.05)
    move_live_answers(monkeypatch, "serving_default", "probabilities", 3e-5 * largest)
    with pytest.raises(InputError, match=r"must answer as the live model does.*serving_default probabilities"):
        parity.require_parity(gate(model, export.folder), "It")


def test_the_gate_asks_large_models_less_and_no_model_twice_for_the_same(tmp_path, monkeypatch, exported):
    """Noise becomes other numbers in a file, whole numbers stay what they are."""
    calls, real = [], parity._in_parts

    def counted(forward, examples):
        calls.append(len(examples["image"]))
        return real(forward, examples)

    monkeypatch.setattr(parity, "_in_parts", counted)
    names = ("serving_default", "from_bytes", "embed")
    assert exported[1].report["batch_sizes"] == {n + loader: [1, 2, 4] for n in names for loader in ("", C_API)}
    export_saved_model(small_classifier(), "animals", NAMES, shelf=tmp_path)
    assert calls == [7, 7]
    monkeypatch.setattr(endpoints, "LARGE", 1)
    picture = {"image": np.arange(math.prod(SHAPE), dtype=np.float32).reshape(1, *SHAPE)}
    export = export_saved_model(small_classifier(), "animals", NAMES, shelf=tmp_path, examples=picture)
    assert calls[2:] == [3]
    others = {name + C_API: [2] for name in ("from_bytes", "embed")}  # one alone might be all that it can
    assert export.report["batch_sizes"] == {"serving_default": [1, 2], **others}
    alone = parity.batch_sizes_of(types.SimpleNamespace(is_large=True), ["serving_default"])
    assert alone == {"serving_default": (1, 2), "serving_default" + C_API: (2,)}


@pytest.mark.parametrize("artefact_format", ["saved_model", "litert"])
def test_the_process_that_runs_an_artefact_can_import_none_of_what_made_it(artefact_format):
    """Each of these packages is installed here."""
    names = fresh_process.FORBIDDEN[artefact_format]
    assert set(names) == {"keras_perceiver", "keras"} | ({"tensorflow"} if artefact_format == "litert" else set())
    assert all(importlib.util.find_spec(name) for name in names)
    program = f"""
import io, runpy, sys
sys.argv, sys.stdin = ["", {artefact_format!r}], io.StringIO("")
runpy.run_path({fresh_process.__file__!r}, run_name="__main__")
for name in {names!r}:
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(f"{{name}} was imported")
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    asked = FreshProcess.of(artefact_format)._process.args
    assert asked == [sys.executable, "-P", fresh_process.__file__, artefact_format]


class InPython(keras.layers.Layer):
    """What no other process has."""

    def call(self, inputs):
        return tf.ensure_shape(tf.numpy_function(lambda x: 2 * x, [inputs], tf.float32), inputs.shape)


def test_a_model_that_needs_python_is_refused_and_removed(tmp_path):
    inputs = keras.Input(SHAPE)
    logits = keras.layers.Dense(3, name="logits")(keras.layers.Flatten()(InPython()(inputs)))
    with pytest.raises(InputError, match="cannot be run without this package"):
        export_saved_model(keras.Model(inputs, logits), "animals", NAMES, shelf=tmp_path)
    assert list((tmp_path / "animals").iterdir()) == []


def test_a_process_that_has_died_is_said_and_another_one_started(exported):
    folder, picture = exported[1].folder, np.ones((1, *SHAPE), np.float32)
    first = FreshProcess.of("saved_model")
    with first.asking(folder, inputs="nowhere", outputs="nowhere", endpoints=[], batch_sizes={}) as answer:
        first._process.kill()
        with pytest.raises(InputError, match="The process that runs exported models ended with -9"):
            answer()
    served = Served(exported[0], modality="image", shape=SHAPE, settings={})
    sizes = {"serving_default": (1,)}
    report, _, _ = parity.compare("saved_model", folder, served, {"image": picture}, 1e-5, sizes)
    assert report["passed"]
    assert FreshProcess.of("saved_model") is not first
