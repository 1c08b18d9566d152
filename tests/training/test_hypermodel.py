"""`HyperPerceiver`: the whole space, its legal points, and what KerasTuner's resets leave of it."""

import dataclasses
import json
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest

from keras_perceiver._checks import InputError
from keras_perceiver.data import load_source, steps_per_epoch
from keras_perceiver.models import PRESETS, build_classifier
from keras_perceiver.training import RECIPES, HyperPerceiver
from keras_perceiver.training.spaces import (
    Choices,
    build_space,
    default_space,
    legal_space,
    model_at,
    point_of,
    recipe_at,
)
from tests.layer_checks import thorough
from tests.tiny import TINY_MODEL

SPACES = Path(__file__).parent.parent.parent / "tuning" / "spaces"
MODALITIES = {"digits": "image", **{name: name for name in ("image", "audio", "video", "audio_video", "points")}}


@pytest.fixture(scope="module")
def digits():
    return load_source("digits")


def declared(hyper):
    """`{name: (kind, default, values or ends and sampling)}` of all that is declared."""
    hp = keras_tuner.HyperParameters()
    hyper.point(hp)
    described = {}
    for one in hp.space:
        config = one.get_config()
        values = [config[key] for key in ("values", "min_value", "max_value", "sampling") if key in config]
        described[one.name] = (type(one).__name__, one.default, *values)
    return described


def test_the_whole_space_around_the_default(digits):
    assert declared(HyperPerceiver(digits)) == {
        "num_latents": ("Choice", 8, [4, 8, 16]),
        "num_self_attention_heads": ("Choice", 4, [2, 4, 8]),
        "self_attention_head_dim": ("Choice", 16, [8, 16, 32]),
        "num_cross_attends": ("Choice", 2, [1, 2, 4]),
        "blocks_per_cross_attend": ("Choice", 1, [1, 2]),
        "num_self_attention_layers": ("Choice", 2, [1, 2, 4]),
        "num_cross_attention_heads": ("Choice", 8, [4, 8, 16]),
        "cross_attention_head_dim": ("Choice", 16, [8, 16, 32]),
        "num_bands": ("Choice", 3, [1, 3, 6]),
        "max_resolution": ("Choice", 4, [2, 4, 8]),
        "share_weights": ("Boolean", True),
        "patch_size": ("Choice", "null", ["null", "2"]),
        "optimizer": ("Choice", "adamw", ["adamw", "lamb"]),
        "learning_rate": ("Float", 0.003, 0.00075, 0.012, "log"),
        "weight_decay": ("Float", 0.1, 0.025, 0.4, "log"),
        "schedule": ("Choice", "cosine", ["cosine", "flat_cosine", "constant"]),
        "batch_size": ("Choice", 32, [16, 32, 64]),
        "shift_rate": ("Float", 0.4, 0.0, 0.8, "linear"),
        "noise_std": ("Float", 20.0, 0.0, 40.0, "linear"),
    }


@pytest.mark.parametrize("kind", ["around", "file"])
@pytest.mark.parametrize("name", MODALITIES)
def test_the_default_point_is_the_librarys_default_and_every_value_is_legal(name, kind):
    model, recipe = PRESETS[name], RECIPES[name]
    around = default_space(model, recipe, MODALITIES[name], 10_000)
    space = around if kind == "around" else json.loads((SPACES / f"{name}.json").read_text())
    choices = build_space(space, model, recipe, MODALITIES[name])
    legal, left_out = legal_space(choices, model, recipe, 10_000)
    assert (legal, left_out) == (choices, {})
    default = {name: one.default for name, one in choices.items()}
    changed = {key: value for key, value in model_at(default, model).items() if value != json_form(model.get(key))}
    # What a preset leaves to the function has that function's default: shared weights, no patches, no stem.
    assert {key: value for key, value in changed.items() if key in model or value not in (None, True, {})} == {}
    assert recipe.replaced(**recipe_at(default)) == recipe
    assert set(space) <= set(point_of(model, recipe))


@pytest.mark.parametrize("name", ["digits", *thorough(*(name for name in MODALITIES if name != "digits"))])
def test_the_models_themselves_take_every_value_of_a_file(name):
    """Each value is in one of these points, beside others than the defaults."""
    model, recipe = PRESETS[name], RECIPES[name]
    choices = build_space(json.loads((SPACES / f"{name}.json").read_text()), model, recipe, MODALITIES[name])
    values = {key: one.every() for key, one in choices.items()}
    for number in range(max(map(len, values.values()))):
        point = {key: every[number % len(every)] for key, every in values.items()}
        built = build_classifier(**{**model, **model_at(point, model)}, dtype="float32")
        assert built.get_layer("latent_array").num_latents == point["num_latents"]
        trained = dataclasses.replace(recipe, **recipe_at(point))
        assert {key: getattr(trained, key) for key in recipe_at(point)} == recipe_at(point)


def json_form(value):
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("seed", range(3))
def test_any_point_is_a_legal_model(digits, seed):
    hyper = HyperPerceiver(digits)
    rng = np.random.default_rng(seed)
    point = {name: one.every()[rng.integers(len(one.every()))] for name, one in hyper.choices.items()}
    arguments = {**hyper.config["model"], **model_at(point, hyper.config["model"])}
    assert arguments["latent_dim"] == point["num_self_attention_heads"] * point["self_attention_head_dim"]
    assert arguments["num_blocks"] == point["num_cross_attends"] * point["blocks_per_cross_attend"]
    model = build_classifier(**arguments, dtype="float32")
    assert model.get_layer("latent_array").num_latents == point["num_latents"]
    hyper.recipe_at(point)


def test_precision_and_seed_survive_kerastuners_resets(digits, tmp_path):
    space = {"num_latents": [3], "learning_rate": {"min": 1e-4, "max": 1e-2, "sampling": "log"}}
    recipe = {"precision": "bfloat16", "epochs": 1, "batch_size": 256, "jit_compile": False}
    hyper = HyperPerceiver(digits, space=space, model=TINY_MODEL, recipe=recipe, seed=5)
    seen = []

    def fit(hp, model, **kwargs):
        seen.append((model.get_layer("cross_attention_1").compute_dtype, [np.array(w) for w in model.weights]))
        return {"val_accuracy": hp.get("learning_rate")}

    hyper.fit = fit
    tuner = keras_tuner.RandomSearch(hyper, "val_accuracy", max_trials=2, seed=1, directory=tmp_path)
    assert {one.name for one in tuner.oracle.get_space().space} == set(space), "all is declared in `build`"
    keras.config.set_dtype_policy("float32")
    tuner.search(verbose=0)
    (first, weights), (second, others) = seen
    assert first == second == "bfloat16"
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("space", "match"),
    [
        ({"num_latent": [3]}, "Did you mean 'num_latents'"),
        ({"time_masks": [1]}, "must name hyper-parameters that change something of data of the modality 'image'"),
        ({}, "must hold at least one"),
        ({"num_latents": 3}, "`num_latents` must be a list of values, or a range"),
        ({"learning_rate": {"min": 0.0, "max": 1.0, "sampling": "log"}}, "`learning_rate` must be a list"),
        ({"num_latents": [0, -1]}, "`space` must have a legal point, and has none for `num_latents`"),
        ({"batch_size": [5000]}, "has none for `batch_size`.*at most the number of examples"),
        ({"patch_size": {"min": 2, "max": 4}}, r"All values of a range.*`patch_size` are not.*3: .*must divide.*"),
        ({"learning_rate": {"min": 0.1, "max": 1.0, "sampling": "log", "step": 1}}, "`step` .* a number above 1"),
        ({"num_latents": {"min": 2, "max": 8, "step": 0.5}}, "`step` of `num_latents` must be .* whole between whole"),
        ({"noise_std": {"min": 0.0, "max": 8.0, "step": 0}}, "`step` of `noise_std` must be a number above 0"),
        ({"num_latents": {"min": 1, "max": 10**30}}, "at most 10,000 whole numbers.*Give it a `step`"),
        ({"learning_rate": {"min": 0.1, "max": float("inf")}}, "`learning_rate` must be a list"),
        ({"learning_rate": ["fast"]}, "has none for `learning_rate`"),
        ({"weight_decay": [None]}, "has none for `weight_decay`"),
        ({"patch_size": [3]}, "has none for `patch_size`.*must divide"),
    ],
)
def test_a_space_without_a_point_is_refused(digits, space, match):
    with pytest.raises(InputError, match=match):
        HyperPerceiver(digits, space=space)


def test_values_that_the_data_cannot_take_are_left_out_and_told(digits):
    hyper = HyperPerceiver(digits, space={"patch_size": [None, 2, 3], "batch_size": [32, 5000]})
    assert hyper.choices["patch_size"].values == [None, 2]
    assert {name: [value for value, _ in wrong] for name, wrong in hyper.left_out.items()} == {
        "patch_size": [3],
        "batch_size": [5000],
    }


def test_data_beside_the_source_end_a_search_at_once(digits):
    hyper = HyperPerceiver(digits, space={"num_latents": [3]}, model=TINY_MODEL)
    with pytest.raises(keras_tuner.errors.FatalError, match=r"`tuner.search` must be given no data"):
        hyper.fit(keras_tuner.HyperParameters(), None, np.zeros(3))
    with pytest.raises(
        keras_tuner.errors.FatalError, match=r"given no data.*given=\['batch_size', 'validation_data'\]"
    ):
        hyper.fit(keras_tuner.HyperParameters(), None, validation_data=(np.zeros(3), np.zeros(3)), batch_size=4)


@pytest.mark.parametrize("settings", [{"gradient_accumulation_steps": 2}, {"precision": "float16"}, {}])
def test_a_trial_goes_on_with_the_step_of_its_epoch(digits, settings, monkeypatch):
    """As Hyperband asks for it: schedule and corrected moments are those of the epochs behind."""
    recipe = {"epochs": 3, "batch_size": 256, "jit_compile": False, **settings}
    hyper = HyperPerceiver(digits, space={"num_latents": [3]}, model=TINY_MODEL, recipe=recipe)
    hp = keras_tuner.HyperParameters()
    monkeypatch.setattr("keras_perceiver.training.hypermodel.fit", lambda model, *_, **__: model.optimizer.iterations)
    updates = hyper.fit(hp, hyper.build(hp), epochs=2, initial_epoch=1)
    steps = steps_per_epoch(digits.splits["train"], 256)
    assert int(updates) == steps // settings.get("gradient_accumulation_steps", 1) > 1


@pytest.mark.parametrize(
    "values",
    [
        {"min": 2, "max": 4},
        {"min": 2, "max": 9, "step": 3},
        {"min": 1, "max": 20, "sampling": "log"},
        {"min": 1, "max": 20, "sampling": "reverse_log"},
        {"min": 1, "max": 30, "sampling": "log", "step": 3},
        {"min": 1, "max": 30, "sampling": "reverse_log", "step": 3},
    ],
)
def test_every_whole_number_that_kerastuner_draws_is_looked_at(values):
    one, hp = Choices.of("num_latents", values, 7), keras_tuner.HyperParameters()
    assert one.declare(hp) == one.default in one.every()
    drawn = {hp.space[0].prob_to_value(share) for share in np.linspace(0, 1, 2001, endpoint=False)}
    assert drawn == set(one.every())


def test_a_range_of_patches_that_all_divide_is_legal(digits):
    hyper = HyperPerceiver(digits, space={"patch_size": {"min": 2, "max": 8, "sampling": "log", "step": 2}})
    assert hyper.choices["patch_size"].every() == [2, 4, 8]
    assert hyper.left_out == {}


def test_points_need_a_resolution():
    choices = build_space({"max_resolution": [None, 8]}, PRESETS["points"], RECIPES["points"], "points")
    _, left_out = legal_space(choices, PRESETS["points"], RECIPES["points"], 100)
    assert [value for value, _ in left_out["max_resolution"]] == [None]
