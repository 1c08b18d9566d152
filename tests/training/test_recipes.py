"""Recipes: the schedule, what is decayed, and what is refused."""

import keras
import numpy as np
import pytest

from keras_perceiver import build_classifier
from keras_perceiver._checks import InputError
from keras_perceiver.training.recipes import RECIPES, Recipe

LEGAL = {"epochs": 10, "batch_size": 4, "learning_rate": 0.5}


def test_the_rate_rises_linearly_and_falls_along_a_cosine_to_zero():
    schedule = Recipe(**LEGAL, warmup_fraction=0.2).build_optimizer(steps_per_epoch=3)._learning_rate
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
    optimizer = recipe.build_optimizer(steps_per_epoch=3)
    for weight in model.weights:
        weight.assign(keras.ops.ones(weight.shape))
    optimizer.apply([keras.ops.zeros(w.shape) for w in model.trainable_weights], model.trainable_weights)
    decayed = {w.path for w in model.weights if np.all(w.numpy() < 1)}
    assert decayed == {w.path for w in model.weights if w.path.endswith("kernel")}
    for weight in model.weights:
        expected = 1 - 0.5 * 0.125 if weight.path in decayed else 1.0
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-6)


def test_recipes_of_the_paper_have_its_numbers():
    """Section 4 and appendix C; label smoothing, MixUp and CutMix of DeepMind's later recipe."""
    lamb = {"optimizer": "lamb", "batch_size": 1024, "learning_rate": 4e-3, "weight_decay": 0.1, "global_clip_norm": 10}
    lamb |= {"schedule": "step", "decay_at": (84 / 120, 102 / 120, 114 / 120)}
    pictures = {"label_smoothing": 0.1, "mix_up": 0.2, "cut_mix": 0.2, "crop_min_area": 0.08}
    pictures |= {"rand_augment_layers": 4, "rand_augment_magnitude": 5}
    clouds = {
        "optimizer": "lamb",
        "batch_size": 512,
        "learning_rate": 1e-3,
        "schedule": "constant",
        "scale_range": 0.01,
    }
    for name, numbers in (
        ("imagenet", {"epochs": 120, **lamb, **pictures}),
        ("audioset", {"epochs": 100, **lamb}),
        ("modelnet40", {**clouds, "weight_decay": 0.0}),
    ):
        assert {key: getattr(RECIPES[name], key) for key in numbers} == numbers


def test_lamb_and_its_settings_reach_the_optimizer():
    recipe = RECIPES["imagenet"]
    optimizer = recipe.build_optimizer(steps_per_epoch=1251)
    config = optimizer.get_config()
    assert type(optimizer).__name__ == "Lamb"
    assert (config["weight_decay"], config["global_clipnorm"]) == (0.1, 10.0)
    assert config["no_decay"] == ["bias", "gamma", "beta"]
    found = [float(optimizer._learning_rate(epoch * 1251)) for epoch in (0, 83, 84, 102, 114)]
    np.testing.assert_allclose(found, [4e-3, 4e-3, 4e-4, 4e-5, 4e-6], rtol=1e-5)
    assert [float(RECIPES["modelnet40"].build_optimizer(7)._learning_rate(step)) for step in (0, 839)] == [
        pytest.approx(1e-3)
    ] * 2


def test_gradients_are_clipped_together():
    optimizer = Recipe(**LEGAL, schedule="constant", optimizer="lamb", global_clip_norm=1.0).build_optimizer(3)
    weights = [keras.Variable([3.0, 4.0], name=name) for name in ("a", "b")]
    optimizer.apply([keras.ops.convert_to_tensor([30.0, 40.0])] * 2, weights)
    clipped = np.array([30.0, 40.0]) / np.sqrt(2 * 50**2)
    np.testing.assert_allclose(optimizer._first_moments[0].numpy(), 0.1 * clipped, rtol=1e-6)


def test_the_average_of_the_weights_is_evaluated_and_kept():
    """A model of one weight whose gradient is -1 at every step: w is 0.5 t, and its average is known."""
    recipe = Recipe(**{**LEGAL, "epochs": 2}, schedule="constant", ema_momentum=0.75)
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")(inputs))
    optimizer = recipe.build_optimizer(steps_per_epoch=3)
    model.compile(optimizer, lambda y, x: -keras.ops.mean(x), jit_compile=False)
    seen = []
    swap = keras.callbacks.SwapEMAWeights()
    look = keras.callbacks.LambdaCallback(
        on_test_batch_begin=lambda batch, logs=None: seen.append(model.weights[0].numpy().item())
    )
    ones = np.ones((3, 1))
    model.fit(ones, ones, batch_size=1, epochs=2, validation_data=(ones, ones), callbacks=[swap, look], verbose=0)
    averages = [0.5]
    for weight in (1.0, 1.5, 2.0, 2.5, 3.0):
        averages.append(0.75 * averages[-1] + 0.25 * weight)
    np.testing.assert_allclose([seen[0], seen[-1]], [averages[2], averages[5]], rtol=1e-4)
    np.testing.assert_allclose(model.weights[0].numpy(), averages[5], rtol=1e-4)


def test_the_loss_is_smoothed_cross_entropy_on_logits():
    loss = Recipe(**LEGAL, label_smoothing=0.3).loss()
    logits = np.log(np.array([[0.5, 0.25, 0.25]]))
    expected = -(0.8 * np.log(0.5) + 0.1 * np.log(0.25) + 0.1 * np.log(0.25))
    np.testing.assert_allclose(loss(np.array([[1.0, 0, 0]]), logits), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", -1),
        ("learning_rate", 0.0),
        ("label_smoothing", 1.0),
        ("warmup_fraction", 1.5),
        ("optimizer", "adam"),
        ("schedule", "linear"),
        ("flat_fraction", 1.0),
        ("global_clip_norm", 0.0),
        ("ema_momentum", 1.0),
    ],
)
def test_an_illegal_setting_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"`{name}` must be .*Received: {name}={value!r}"):
        Recipe(**{**LEGAL, name: value})


def test_shares_of_a_run_are_refused_by_name():
    with pytest.raises(InputError, match=r"`decay_at` must hold shares .*decay_at=\(84, 102\)"):
        Recipe(**LEGAL, schedule="step", decay_at=(84, 102))


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


def test_few_examples_are_seen_more_often_unless_epochs_are_given():
    recipe = Recipe(**{**LEGAL, "epochs": 100, "batch_size": 16}, min_steps=2000, max_steps=6000)
    assert recipe.resolved(97).epochs == 334  # of six steps
    assert recipe.resolved(320).epochs == 100  # of twenty
    assert recipe.resolved(97, epochs=3).epochs == 3
    assert recipe.resolved(5).epochs == 2000
    assert recipe.resolved(5, batch_size=16).epochs == 2000
    assert recipe.resolved(3200).epochs == 30


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
    [
        ("flip_rate", 1.5),
        ("crop_min_area", -0.1),
        ("cut_mix", 2),
        ("rand_augment_layers", -1),
        ("max_steps", 0),
        ("min_steps", 0),
    ],
)
def test_an_illegal_augmentation_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"`{name}` must be .*Received: {name}={value}"):
        Recipe(**{**LEGAL, name: value})
