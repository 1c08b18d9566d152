"""Recipes: the schedule, what is decayed, and what is refused."""

import keras
import numpy as np
import pytest

from keras_perceiver import build_classifier
from keras_perceiver._checks import InputError
from keras_perceiver.training.recipes import RECIPES, Recipe

LEGAL = {"epochs": 10, "batch_size": 4, "learning_rate": 0.5}


def test_the_rate_rises_linearly_and_falls_along_a_cosine_to_zero():
    schedule = Recipe(**LEGAL, warmup_fraction=0.2).optimizer(steps_per_epoch=3)._learning_rate
    rates = [float(schedule(step)) for step in (0, 3, 6, 18, 30)]
    np.testing.assert_allclose(rates, [0.005, (0.005 + 0.5) / 2, 0.5, 0.25, 0.0], atol=1e-6)


def test_biases_norms_and_the_latent_array_are_not_decayed():
    model = build_classifier(
        (5, 1),
        3,
        num_bands=2,
        num_latents=2,
        latent_dim=4,
        num_blocks=1,
        num_cross_attends=1,
        num_self_attention_layers=1,
        num_self_attention_heads=2,
    )
    recipe = Recipe(**LEGAL, weight_decay=0.125)
    optimizer = recipe.optimizer(steps_per_epoch=3)
    for weight in model.weights:
        weight.assign(keras.ops.ones(weight.shape))
    optimizer.apply([keras.ops.zeros(w.shape) for w in model.trainable_weights], model.trainable_weights)
    decayed = {w.path for w in model.weights if np.all(w.numpy() < 1)}
    assert decayed == {w.path for w in model.weights if w.path.endswith("kernel")}
    for weight in model.weights:
        expected = 1 - 0.5 * 0.125 if weight.path in decayed else 1.0
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-6)


def test_the_loss_is_smoothed_cross_entropy_on_logits():
    loss = Recipe(**LEGAL, label_smoothing=0.3).loss()
    logits = np.log(np.array([[0.5, 0.25, 0.25]]))
    expected = -(0.8 * np.log(0.5) + 0.1 * np.log(0.25) + 0.1 * np.log(0.25))
    np.testing.assert_allclose(loss(np.array([[1.0, 0, 0]]), logits), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("batch_size", -1), ("learning_rate", 0.0), ("label_smoothing", 1.0), ("warmup_fraction", 1.5)],
)
def test_an_illegal_setting_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"`{name}` must be .*Received: {name}={value}"):
        Recipe(**{**LEGAL, name: value})


def test_only_given_settings_are_replaced():
    replaced = RECIPES["digits"].replaced(epochs=7, batch_size=None)
    assert replaced.epochs == 7
    assert replaced.batch_size == RECIPES["digits"].batch_size


def test_a_recipe_stays_within_its_steps_unless_epochs_are_given():
    recipe = Recipe(**{**LEGAL, "epochs": 100, "batch_size": 64}, max_steps=1000)
    assert recipe.resolved(640).epochs == 100
    assert recipe.resolved(6400).epochs == 10
    assert recipe.resolved(6400, batch_size=32).epochs == 5
    assert recipe.resolved(6400, epochs=70).epochs == 70
    assert recipe.resolved(1_000_000).epochs == 1
    assert recipe.resolved(50).batch_size == 50
    assert recipe.resolved(50, batch_size=64).batch_size == 64  # asked for: refused where it is used


def test_crops_are_left_out_where_pictures_are_seen_a_few_times_unless_they_are_asked_for():
    recipe = Recipe(
        **{**LEGAL, "epochs": 100, "batch_size": 64}, max_steps=1000, crop_min_area=0.6, crop_from_epochs=20
    )
    assert recipe.resolved(640).crop_min_area == 0.6
    assert recipe.resolved(3200).crop_min_area == 0.6  # 20 epochs
    assert recipe.resolved(6400).crop_min_area == 1.0  # 10 epochs
    assert recipe.resolved(6400, crop_min_area=0.3).crop_min_area == 0.3
    assert recipe.resolved(640, epochs=7).crop_min_area == 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [("flip_rate", 1.5), ("crop_min_area", -0.1), ("cut_mix", 2), ("rand_augment_layers", -1), ("max_steps", 0)],
)
def test_an_illegal_augmentation_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"`{name}` must be .*Received: {name}={value}"):
        Recipe(**{**LEGAL, name: value})
