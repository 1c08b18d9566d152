"""What a search leaves: `train` makes of it the very model of the trial."""

import json

import numpy as np
import pytest

from keras_perceiver.data import Source, Split, load_source
from keras_perceiver.data.points import points_dtype
from keras_perceiver.models import build_classifier
from keras_perceiver.models.presets import preset_arguments
from keras_perceiver.training import HyperPerceiver, with_settings
from keras_perceiver.training.configuration import configuration
from keras_perceiver.training.spaces import model_at
from tests.tiny import TINY_MODEL
from tuning.report import best_settings
from tuning.results import TrialResult


@pytest.fixture(scope="module")
def digits():
    return load_source("digits")


@pytest.fixture(scope="module")
def points():
    split = Split(np.zeros(64, points_dtype((5, 3))), np.arange(64, dtype=np.int32) % 2)
    return Source("clouds", "points", ("a", "b"), {"train": split}, preset="points", shape=(5, 3))


def trained(hyper, values, given, tmp_path):
    """The model and the recipe that `train --config best.json` would take, were this trial the best."""
    result = TrialResult("0", "completed", 0.5, 1, values)
    (tmp_path / "best.json").write_text(json.dumps(best_settings(result, hyper, given)))
    none = {"preset": None, "base_recipe": None, "source": {}, "preprocess": {}, "model": {}, "recipe": {}}
    settings = with_settings(tmp_path / "best.json", none)
    config = configuration(hyper.source, 0, "perceiver", settings["model"], settings["recipe"])
    return build_classifier(**config["model"]), config["training"]


@pytest.mark.parametrize("patch_size", ["null", "2"])
def test_a_resolution_of_null_is_not_the_one_that_was_given(patch_size, digits, tmp_path):
    """Null stands for the lengths of the axes, behind patches."""
    model = {**TINY_MODEL, "max_resolution": 6}
    hyper = HyperPerceiver(digits, space={"max_resolution": [None, 6], "patch_size": [None, 2]}, model=model)
    for resolution, expected in (("null", 8 if patch_size == "null" else 4), ("6", 6)):
        values = {"max_resolution": resolution, "patch_size": patch_size}
        built, _ = trained(hyper, values, {"model": model}, tmp_path)
        positions = built.get_layer("inputs_positions")
        assert positions.resolutions(positions.output[0].shape[1:-1]) == (expected, expected)


def test_patches_take_the_place_of_a_stem_that_was_given(digits, tmp_path):
    model = {**TINY_MODEL, "stem": "conv", "num_stem_layers": 1}
    hyper = HyperPerceiver(digits, space={"patch_size": [None, 2]}, model=model)
    names = {}
    for patch_size in ("null", "2"):
        built, _ = trained(hyper, {"patch_size": patch_size}, {"model": model}, tmp_path)
        names[patch_size] = {layer.name for layer in built.layers} & {"inputs_stem_1", "inputs_patches"}
    assert names == {"null": {"inputs_stem_1"}, "2": {"inputs_patches"}}


def test_patches_take_the_place_of_a_stem_of_their_own_modality_alone():
    model = {"input_shape": {"audio": (8, 8, 1), "video": (4, 8, 8, 3)}, "stem": {"audio": "conv"}}
    assert model_at({"patch_size": {"video": 2}}, model) == {"patch_size": {"video": 2}, "stem": {"audio": "conv"}}
    assert model_at({"patch_size": {"video": 2, "audio": 4}}, model)["stem"] == {}
    both = model_at({"patch_size": {"video": 2}}, {**model, "stem": "conv"})
    assert both == {"patch_size": {"video": 2}, "stem": {"audio": "conv"}}


def test_a_trial_without_a_stem_is_trained_without_the_stem_of_the_preset():
    """Patches were given for both modalities, so nothing else stands before the sound where a point has none for it."""
    given = preset_arguments("audio_video", {"patch_size": {"video": (2, 8, 8), "audio": 4}})
    chosen = model_at({"patch_size": {"video": (2, 8, 8)}}, given)
    built = preset_arguments("audio_video", {"patch_size": {"video": (2, 8, 8), "audio": 4}, **chosen})
    assert (built["stem"], built["patch_size"]) == ({}, {"video": (2, 8, 8)})


def test_null_of_the_recipe_is_none_where_another_value_was_given(points, tmp_path):
    recipe = {"rotation_axis": "z"}
    space = {"rotation_axis": [None, "x"]}
    hyper = HyperPerceiver(points, space=space, model=TINY_MODEL, recipe=recipe)
    assert hyper.recipe_at({"rotation_axis": None}).rotation_axis is None
    for value, expected in (("null", None), ('"x"', "x")):
        _, training = trained(hyper, {"rotation_axis": value}, {"model": TINY_MODEL, "recipe": recipe}, tmp_path)
        assert training["rotation_axis"] == expected
