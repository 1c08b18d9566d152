"""The first ten steps of training are those of an implementation in JAX that shares no line with ours."""

import math

import keras
import numpy as np
import pytest

from keras_perceiver import build_classifier
from keras_perceiver.training import Recipe
from tests.layer_checks import randomise

STEPS, BATCH, CLASSES = 10, 4, 3
SIZE = {"num_bands": 2, "num_blocks": 2, "num_cross_attends": 2}
RECIPES = {
    "adamw": Recipe(5, BATCH, 0.01, weight_decay=0.1, label_smoothing=0.1, beta_2=0.95, warmup_fraction=0.2),
    "lamb": Recipe(5, BATCH, 0.02, optimizer="lamb", weight_decay=0.1, schedule="step", decay_at=(0.5, 0.8)),
}
EPSILON = {"adamw": 1e-7, "lamb": 1e-6}
TOLERANCE = 1e-6  # Keras' own AdamW rounds its betas to float32
# The softmax cancels the bias of keys: its gradient is what rounding leaves, and LAMB makes that as long as they are.
CANCELLED = "/key/bias"
CHANGES = {  # what must be seen
    "beta_2": {"beta_2": 0.99},
    "epsilon": {"epsilon": 1e-5},
    "decay of biases": {"is_decayed": lambda name: True},
}


@pytest.fixture(autouse=True)
def _in_float64():
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)


def batches():
    rng = np.random.default_rng(0)
    return [
        (rng.uniform(-1, 1, (BATCH, 5, 3, 2)), np.eye(CLASSES)[rng.integers(0, CLASSES, BATCH)]) for _ in range(STEPS)
    ]


def rates(recipe):
    """The learning rate of each of ten steps of a run of ten, by hand."""
    if recipe.schedule == "step":
        return [0.02 * 0.1 ** ((step >= 5) + (step >= 8)) for step in range(STEPS)]
    rising = [0.01 * (0.01 + 0.99 * step / 2) for step in range(2)]
    return rising + [0.01 * 0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]


@pytest.fixture(params=RECIPES)
def steps(request):
    """`(recipe, initial weights, [(loss before, weights after), ..])` of Keras."""
    recipe = RECIPES[request.param]
    model = randomise(
        build_classifier(
            (5, 3, 2),
            CLASSES,
            num_latents=3,
            latent_dim=6,
            num_self_attention_layers=1,
            num_self_attention_heads=2,
            dtype="float64",
            **SIZE,
        )
    )
    recipe.replaced(jit_compile=False).compile(model, STEPS // recipe.epochs)
    model.run_eagerly = True  # ten steps take less than tracing one
    initial, trace = named(model), []
    for x, y in batches():
        model.reset_metrics()
        loss = model.train_on_batch(x, y)[0]
        trace.append((float(loss), named(model)))
    return recipe, initial, trace


def named(model):
    return {w.path: np.array(w) for w in model.trainable_weights}


def in_jax(recipe, initial, **changes):
    jax = pytest.importorskip("jax")
    from tests import jax_perceiver

    settings = {
        "optimizer": getattr(jax_perceiver, recipe.optimizer),
        "rates": rates(recipe),
        "decay": recipe.weight_decay,
        "is_decayed": lambda name: name.endswith("kernel"),
        "smoothing": recipe.label_smoothing,
        "beta_2": recipe.beta_2,
        "epsilon": EPSILON[recipe.optimizer],
        "num_layers": 1,
        "num_heads": 2,
        **SIZE,
    }
    with jax.enable_x64(True):
        return jax_perceiver.train(initial, batches(), **{**settings, **changes})


def largest_differences(ours, theirs):
    """Of the losses, and of the weights, after each step."""
    losses = [abs(one[0] - two[0]) for one, two in zip(ours, theirs, strict=True)]
    weights = [
        max(np.abs(one[1][name] - two[1][name]).max() for name in two[1] if not name.endswith(CANCELLED))
        for one, two in zip(ours, theirs, strict=True)
    ]
    return np.array(losses), np.array(weights)


def test_ten_steps_are_those_of_jax_and_would_not_be_after_any_change(steps):
    recipe, initial, ours = steps
    theirs = in_jax(recipe, initial)
    assert theirs[-1][1].keys() == ours[-1][1].keys()
    losses, weights = largest_differences(ours, theirs)
    assert losses.max() < TOLERANCE, losses
    assert weights.max() < TOLERANCE, weights
    moved = max(np.abs(ours[-1][1][n] - initial[n]).max() for n in initial)
    assert moved > 0.01
    changes = CHANGES | ({"no residual": {"residual": False}} if recipe.optimizer == "adamw" else {})
    for name, change in changes.items():
        losses, weights = largest_differences(ours, in_jax(recipe, initial, **change))
        assert max(losses.max(), weights.max()) > 20 * TOLERANCE, name
