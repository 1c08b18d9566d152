"""LiteRT files: the live model's numbers by the runtime alone, measured, and refused where they lose too much."""

import json
from collections import Counter

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from keras_perceiver._checks import InputError
from keras_perceiver.data import MODALITIES, normalize_pixels
from keras_perceiver.export import benchmark, export_litert, litert
from keras_perceiver.export.endpoints import Served
from keras_perceiver.export.litert import convert
from keras_perceiver.models import build_preset
from tests.layer_checks import thorough
from tests.small_classifier import NAMES, SHAPE, small_classifier
from tests.tiny import TINY_MODEL

RNG = np.random.default_rng(0)


def pixels(count):
    return {"image": RNG.integers(0, 256, (count, *SHAPE)).astype(np.float32)}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(model, examples, `Export`) of a file in float32; not to be changed."""
    model, examples = small_classifier(), {"image": np.random.default_rng(3).uniform(0, 255, (13, *SHAPE)).astype("f")}
    return (
        model,
        examples,
        export_litert(model, "animals", NAMES, shelf=tmp_path_factory.mktemp("s"), examples=examples),
    )


def test_a_file_answers_as_the_model_in_batches_of_any_size(measured):
    model, examples, export = measured
    assert export.folder.parts[-2:] == ("animals-litert", "1")
    interpreter = Interpreter(str(export.folder / "model.tflite"))
    assert list(interpreter.get_signature_list()) == ["serving_default"]
    runner = interpreter.get_signature_runner("serving_default")
    live = model(normalize_pixels(examples["image"])).numpy()
    assert np.ptp(live, axis=0).min() > 0.1
    for count in (2, 11):
        answer = runner(image=examples["image"][:count])
        np.testing.assert_allclose(answer["logits"], live[:count], atol=1e-4 * np.abs(live).max())
        np.testing.assert_allclose(answer["probabilities"].sum(axis=1), 1, rtol=1e-5)
    report = json.loads((export.folder / "parity.json").read_text())
    assert report == json.loads(json.dumps(export.report))
    assert report["bytes"] == (export.folder / "model.tflite").stat().st_size
    assert report["figure"] == 1  # every best class is the model's
    assert export.lines()[-1].endswith("of 0.1 that may be, on 13 held-out examples, each of which is 7.69 points")
    assert set(report["latency"]) == {"1", "2"}
    assert 0 < report["latency"]["1"]["median"] <= report["latency"]["1"]["p99"]
    description = json.loads((export.folder / "perceiver.json").read_text())
    assert (description["class_names"], description["quantize"]) == (NAMES, "none")


def test_a_file_answers_to_bad_input_as_the_readme_says(measured):
    """Another shape or type raises, nothing is answered by nothing, and what is not finite spoils its own row alone."""
    images = measured[1]["image"][:5]
    run = Interpreter(str(measured[2].folder / "model.tflite")).get_signature_runner("serving_default")
    clean = run(image=images)["logits"].copy()
    for wrong in (np.nan, np.inf):
        bad = images.copy()
        bad[2, 1, 1] = wrong
        spoilt = run(image=bad)["logits"]
        assert not np.isfinite(spoilt[2]).any()
        np.testing.assert_allclose(np.delete(spoilt, 2, axis=0), np.delete(clean, 2, axis=0), rtol=1e-5)
    assert run(image=images[:0])["logits"].shape == (0, 3)
    for bad in (images[:, :3], images[..., 0], images[None], images.astype(float), images.astype(int)):
        with pytest.raises((RuntimeError, ValueError)):
            run(image=bad)
    np.testing.assert_allclose(run(image=images)["logits"], clean, rtol=1e-6)


def test_int8_is_close_from_a_model_of_mixed_precision(tmp_path):
    """Measured on what the test draws: a quarter of the largest logit is much for so few numbers, and not noise."""
    model = small_classifier(dtype="mixed_bfloat16")
    export = export_litert(
        model, "animals", NAMES, quantize="int8", shelf=tmp_path, examples=pixels(40), calibration=pixels(40),
        max_points_lost=20.0,
    )  # fmt: skip
    assert export.folder.parent.name == "animals-litert-int8"
    assert 1e-4 < export.report["logit_difference"] < 0.25
    run = Interpreter(str(export.folder / "model.tflite")).get_signature_runner("serving_default")
    images = pixels(4)["image"]
    clean, spoilt = run(image=images)["logits"].copy(), images.copy()
    spoilt[1, 0, 0] = np.nan  # whatever it becomes in 8 bits
    np.testing.assert_allclose(
        np.delete(run(image=spoilt)["logits"], 1, axis=0), np.delete(clean, 1, axis=0), rtol=1e-5
    )


def operators(content):
    """[(name, dtypes of what goes in, dtypes of what comes out)] of a LiteRT file, as its schema says."""
    operator_names = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
    dtypes = {code: name for name, code in vars(schema.TensorType).items() if name.isupper()}
    file = schema.ModelT.InitFromPackedBuf(content)
    return [
        (
            operator_names[file.operatorCodes[op.opcodeIndex].builtinCode],
            *({dtypes[graph.tensors[i].type] for i in ends if i >= 0} for ends in (op.inputs, op.outputs)),
        )
        for graph in file.subgraphs
        for op in graph.operators or ()
    ]


def test_int8_leaves_scores_softmax_normalisation_and_class_scores_in_float():
    """The dense layers alone are in int8: queries, outputs and two of the MLP of 2 cross-attends; keys and values too
    of 2 self-attention layers."""
    found = operators(convert(Served(small_classifier()), "int8", pixels(20)))
    in_int8 = Counter(name for name, given, answered in found if "INT8" in given | answered)
    assert in_int8.pop("FULLY_CONNECTED") == 2 * 4 + 2 * 4
    assert set(in_int8) == {"QUANTIZE", "DEQUANTIZE"}
    names = Counter(name for name, *_ in found)
    assert (names["SOFTMAX"], names["BATCH_MATMUL"]) == (4 + 1, 2 * 4)  # the fifth makes the probabilities
    assert names["MEAN"] == 2 * names["RSQRT"] + 1 > 1  # normalisation, and the mean of the latents


@pytest.mark.parametrize("modality", ["audio", *thorough("audio_video")])
def test_int8_leaves_the_spectrogram_in_float(modality):
    """A cross-attend over all of its inputs at once multiplies by tables of positions, which are no layer's weights."""
    shape = {"audio": (16_000, 16_000, 10), "audio_video": (4, 32, 32, 3, 16_000, 16_000, 10)}[modality]
    model = build_preset(
        modality,
        input_shape=MODALITIES[modality].input_shape(shape),
        **{**TINY_MODEL, "num_latents": 16, "num_classes": 3},
    )
    served = Served(model, modality=modality, shape=shape, settings={})
    found = operators(convert(served, "int8", served.noise(4)))
    moved = {"QUANTIZE", "DEQUANTIZE", "STRIDED_SLICE"}
    in_int8 = {name for name, given, answered in found if "INT8" in given | answered} - moved
    assert in_int8 == {"FULLY_CONNECTED", "CONV_2D"}  # both have convolutions before the sound
    assert {"RFFT2D", "LOG", "SOFTMAX", "BATCH_MATMUL"} <= {name for name, *_ in found}


def test_int8_that_has_learned_the_wrong_ranges_is_refused_with_the_figures(tmp_path):
    """Calibrated on black pictures alone, what attention brings of others is cut off."""
    black = {"image": np.zeros((8, *SHAPE), np.float32)}
    model = small_classifier()
    for weight in model.weights:
        if weight.path.endswith("attention_output/kernel"):
            weight.assign(10 * weight)
    with pytest.raises(InputError, match=r"was removed.*(serving_default logits \d|points_lost=)"):
        export_litert(model, "animals", NAMES, quantize="int8", shelf=tmp_path, examples=pixels(40), calibration=black)
    assert list((tmp_path / "animals-litert-int8").iterdir()) == []


@pytest.mark.parametrize("modality", ["audio_video", *thorough("audio", "video", "points")])
def test_films_in_patches_sounds_with_their_spectrogram_and_clouds_convert_with_their_masks(modality, tmp_path):
    """The usual models, but for their size: with transposes of many axes and walks over blocks of open length. Their
    answers to bad input are those of pictures."""
    shapes = {"audio": (16_000, 16_000, 10), "video": (4, 32, 32, 3), "audio_video": (4, 32, 32, 3, 16_000, 16_000, 10)}
    shapes["points"] = (64, 3)
    about = {"modality": modality, "shape": shapes[modality], "settings": {}}
    inputs = MODALITIES[modality].input_shape(shapes[modality])
    sizes = {**TINY_MODEL, "num_latents": 16, "num_classes": 3}
    model = build_preset(modality, input_shape=inputs, **sizes)
    model.get_layer("logits").kernel.assign(np.random.default_rng(2).normal(size=(8, 3)))
    examples = Served(model, **about).noise(5)
    for name in {"length", "frames_length"} & set(examples):
        examples[name] //= np.array([1, 2, 1, 1, 2], np.int32)
    export = export_litert(model, "films", NAMES, shelf=tmp_path, examples=examples, **about)
    assert export.report["passed"]
    assert export.report["num_examples"] == 5
    run = Interpreter(str(export.folder / "model.tflite")).get_signature_runner("serving_default")
    clean = run(**examples)["logits"].copy()
    name, values = next((n, x) for n, x in reversed(examples.items()) if x.dtype == np.float32)
    for wrong in (np.nan, np.inf):
        bad = values.copy()
        bad[2, 1] = wrong
        spoilt = run(**{**examples, name: bad})["logits"]
        assert not np.isfinite(spoilt[2]).any()
        np.testing.assert_allclose(np.delete(spoilt, 2, axis=0), np.delete(clean, 2, axis=0), rtol=1e-4, atol=1e-5)
    if "audio" in modality:  # the runtime's fast kernels take none of one of its shapes
        with pytest.raises(RuntimeError):
            run(**{n: x[:0] for n, x in examples.items()})
    else:
        assert run(**{n: x[:0] for n, x in examples.items()})["logits"].shape == (0, 3)
    np.testing.assert_allclose(run(**examples)["logits"], clean, rtol=1e-6)


def test_a_file_that_differs_or_loses_accuracy_is_removed_with_the_figures(measured, tmp_path, monkeypatch):
    content = (measured[2].folder / "model.tflite").read_bytes()
    monkeypatch.setattr(litert, "convert", lambda *_: content)
    figures = iter((0.9, 0.95))  # of the file, of the model
    with pytest.raises(InputError, match=r"at most 0\.1 points and was removed.*points_lost=5\.0.*90\.00%"):
        export_litert(
            small_classifier(), "animals", NAMES, shelf=tmp_path, examples=pixels(5), figure=lambda _: next(figures)
        )
    with pytest.raises(InputError, match=r"must answer as the live model does.*serving_default logits \S+ of 1e-04"):
        export_litert(small_classifier(seed=2), "animals", NAMES, shelf=tmp_path, examples=pixels(5))
    assert list((tmp_path / "animals-litert").iterdir()) == []


STATED = {"none": (1e-4, 0.1), "float16": (1e-2, 0.2), "dynamic": (0.25, 1.0), "int8": (0.25, 1.0)}  # as in README


@pytest.mark.parametrize("quantize", STATED)
def test_a_file_may_lose_what_is_stated_and_no_more(quantize, measured, tmp_path, monkeypatch):
    content, (tolerance, points), compare = (measured[2].folder / "model.tflite").read_bytes(), STATED[quantize], []
    monkeypatch.setattr(litert, "convert", lambda *_: content)
    monkeypatch.setattr(litert, "SECONDS", 0.01)
    real = litert.compare
    monkeypatch.setattr(litert, "compare", lambda *given: compare.append(given[4]) or real(*given))
    options = {"quantize": quantize, "shelf": tmp_path, "examples": pixels(3), "calibration": pixels(1)}
    for lost in (points - 0.01, points + 0.01):
        figures = iter((0.9 - lost / 100, 0.9))  # of the file, of the model
        options["figure"] = lambda _, figures=figures: next(figures)
        if lost < points:
            export = export_litert(measured[0], "animals", NAMES, **options)
            assert export.report["points_lost"] == pytest.approx(lost)
        else:
            with pytest.raises(InputError, match=rf"at most {points:g} points and was removed"):
                export_litert(measured[0], "animals", NAMES, **options)
    assert compare == [tolerance] * 2
    assert [path.name for path in export.folder.parent.iterdir()] == ["1"]


def test_what_cannot_be_is_refused_before_work_begins(tmp_path, monkeypatch):
    model = small_classifier()
    with pytest.raises(InputError, match="Did you mean 'float16'"):
        export_litert(model, "animals", NAMES, quantize="float32", shelf=tmp_path)
    with pytest.raises(InputError, match="`calibration` must be given"):
        export_litert(model, "animals", NAMES, quantize="int8", shelf=tmp_path)
    with pytest.raises(InputError, match="`name` must begin"):
        export_litert(model, "../animals", NAMES, shelf=tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"keras-perceiver\[litert\]"):
        export_litert(model, "animals", NAMES, shelf=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_benchmark_times_the_model_of_a_run_with_every_number_of_threads_too(measured, tmp_path):
    measured[0].save(tmp_path / "model.keras")
    source = {"modality": "image", "shape": measured[0].input_shape[1:]}
    (tmp_path / "config.json").write_text(json.dumps({"source": source, "preprocess": {}}))
    timings = benchmark([tmp_path], batch_sizes=(2,), threads=(1, 2), seconds=0.05)
    assert [(t.model, t.threads, t.batch_size) for t in timings] == [(str(tmp_path), n, 2) for n in (1, 2)]
    assert all(timing.runtime.startswith("live in float32") and timing.median > 0 for timing in timings)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"must be keras-perceiver's own. KeyError"):
        benchmark([tmp_path])
    (tmp_path / "config.json").write_text(json.dumps({"source": source, "preprocess": {}}))
    (tmp_path / "model.keras").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"The model of the run cannot be run. ValueError"):
        benchmark([tmp_path])


def test_benchmark_times_every_batch_size_with_every_number_of_threads(measured, tmp_path):
    picture = tmp_path / "speed.png"
    timings = benchmark([measured[2].folder.parent], batch_sizes=(1, 7), threads=(1, 2), seconds=0.05, picture=picture)
    assert [(t.threads, t.batch_size) for t in timings] == [(1, 1), (1, 7), (2, 1), (2, 7)]
    for timing in timings:
        assert timing.runtime.startswith("ai_edge_litert")
        assert timing.calls >= 10
        assert 0 < timing.median <= timing.p90 <= timing.p99
        assert timing.examples_per_second == pytest.approx(1000 * timing.batch_size / timing.median)
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="batch_size=0"):
        benchmark([measured[2].folder], batch_sizes=(0,))
    with pytest.raises(InputError, match="folder of a SavedModel or a LiteRT file"):
        benchmark([tmp_path])
