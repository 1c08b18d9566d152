"""What `export_run` passes on: which examples an export is measured with and learns from, and which options fit."""

import keras
import numpy as np
import pytest

from keras_perceiver import training
from keras_perceiver._checks import InputError
from keras_perceiver.data import load_source
from keras_perceiver.inspection import describe_model
from keras_perceiver.training import exports


@pytest.fixture
def passed(monkeypatch):
    """What `export_litert` and `export_saved_model` are called with."""
    found = {}
    for name in ("export_litert", "export_saved_model"):
        monkeypatch.setattr(exports, name, lambda model, **arguments: found.update(arguments))
    return found


def are_of(split, pictures):
    """Whether all pictures are of that split of the digits."""
    known = {picture.tobytes() for picture in load_source("digits").splits[split].examples.astype(pictures.dtype)}
    return all(picture.tobytes() in known for picture in pictures)


@pytest.mark.parametrize("quantize", ["none", "float16", "dynamic", "int8"])
def test_a_litert_file_is_measured_on_test_examples_and_int8_learns_from_training_ones(quantize, passed, tiny_run):
    training.export_run(tiny_run.folder, export_format="litert", quantize=quantize, max_points_lost=3.0)
    source = load_source("digits")
    np.testing.assert_array_equal(passed["examples"]["image"], source.splits["test"].examples[: exports.MEASURED])
    labels = source.splits["test"].labels
    assert passed["figure"](np.eye(10)[labels]) == 1
    assert (passed["quantize"], passed["max_points_lost"]) == (quantize, 3.0)
    if quantize != "int8":
        assert passed["calibration"] is None
        return
    learned = passed["calibration"]["image"]
    assert len(learned) == exports.CALIBRATION
    assert are_of("train", learned)


def test_a_model_that_takes_seconds_and_examples_that_are_large_are_measured_fewer_times(passed, tiny_run, monkeypatch):
    """So that some seconds and half a gigabyte are enough."""
    one = describe_model(keras.models.load_model(tiny_run.folder / "model.keras")).flops
    for name, value, count, learned in (  # each beside the former
        ("MEASURED_FLOPS", 23.5 * one, 23, exports.LEAST_CALIBRATION),
        ("MEASURED_BYTES", 29 * 8 * 8 * 4, 23, 29),
        ("MEASURED_BYTES", 11 * 8 * 8 * 4, 11, 11),
        ("MEASURED_FLOPS", one, exports.LEAST, 11),
    ):
        monkeypatch.setattr(exports, name, value)
        training.export_run(tiny_run.folder, export_format="litert", quantize="int8")
        assert (len(passed["examples"]["image"]), len(passed["calibration"]["image"])) == (count, learned)
        training.export_run(tiny_run.folder)
        assert len(passed["examples"]["image"]) == min(count, exports.HELD_OUT)


def test_a_saved_model_is_compared_on_test_examples_with_what_was_asked_for(passed, tiny_run, tmp_path):
    training.export_run(tiny_run.folder, xla=True, licence="CC0", shelf=tmp_path)
    assert are_of("test", passed["examples"]["image"])
    assert (passed["xla"], passed["shelf"]) == (True, tmp_path)
    assert passed["provenance"]["licence"] == "CC0"


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"quantize": "int8"}, r"for `export_format=\"litert\"`.*\['quantize'\]"),
        ({"max_points_lost": 1.0}, r"for `export_format=\"litert\"`.*\['max_points_lost'\]"),
        ({"export_format": "litert", "xla": True}, '`xla` is for `export_format="saved_model"`'),
        ({"export_format": "onnx"}, "`export_format` must be one of"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, rule, passed, tiny_run):
    with pytest.raises(InputError, match=rule):
        training.export_run(tiny_run.folder, **options)
    assert passed == {}
