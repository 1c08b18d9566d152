"""Precision and compilation: that they reach the step that trains, and survive a file."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_perceiver import build_classifier
from keras_perceiver._checks import InputError
from keras_perceiver.data import load_source
from keras_perceiver.training import PRECISIONS, Recipe
from keras_perceiver.training.evaluate import evaluate_model
from keras_perceiver.training.train import fit
from tests.tiny import TINY_MODEL

RECIPE = Recipe(1, 4, 0.1, jit_compile=False, precision="float16")


def network(recipe, layer=None):
    policy = PRECISIONS[recipe.precision]
    inputs = keras.Input((3,))
    x = keras.layers.Dense(5, "relu", dtype=policy)(inputs)
    x = x if layer is None else layer(x)
    model = keras.Model(inputs, keras.layers.Dense(2, dtype="float32")(x))
    model.dtype_policy = policy  # as `build_classifier` does
    recipe.compile(model, 12)
    return model


def batch(scale=1.0):
    x = np.random.default_rng(0).normal(size=(4, 3)) * scale
    return x.astype(np.float32), np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]


class InPython(keras.layers.Layer):
    """Something that XLA cannot compile."""

    def call(self, inputs):
        same = tf.numpy_function(lambda x: x, [inputs], tf.float32)
        return tf.reshape(same, tf.shape(inputs)) + 0 * inputs

    def compute_output_shape(self, input_shape):
        return input_shape


def test_the_training_step_is_compiled_by_xla_or_is_not():
    """What XLA cannot compile stops the one and not the other."""
    plain = RECIPE.replaced(precision="float32")
    assert np.isfinite(network(plain, InPython()).train_on_batch(*batch())[0])
    with pytest.raises(tf.errors.InvalidArgumentError, match="XLA"):
        network(plain.replaced(jit_compile=True), InPython()).train_on_batch(*batch())


@pytest.mark.parametrize("jit_compile", [False, True])
def test_float16_scales_its_loss_and_leaves_out_steps_whose_gradients_overflow(jit_compile, tmp_path):
    model = network(RECIPE.replaced(jit_compile=jit_compile))
    scale = model.optimizer.dynamic_scale
    before, scale_before = model.get_weights(), float(scale)
    model.train_on_batch(*batch(scale=6e4))
    assert float(scale) == scale_before / 2
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    model.train_on_batch(*batch())
    assert float(scale) == scale_before / 2
    assert not np.array_equal(model.get_weights()[0], before[0])
    assert model.optimizer.iterations == 1

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert float(loaded.optimizer.dynamic_scale) == scale_before / 2
    assert [layer.compute_dtype for layer in loaded.layers[1:]] == ["float16", "float32"]
    assert {w.dtype for w in loaded.weights} == {"float32"}


def test_gradients_of_several_steps_are_averaged_for_one_update_and_the_rate_is_that_of_the_step():
    recipe = Recipe(2, 4, 0.5, jit_compile=False, gradient_accumulation_steps=3)
    model = network(recipe)
    before = model.get_weights()
    moved = []
    for _ in range(6):
        model.train_on_batch(*batch())
        moved.append(not np.array_equal(model.get_weights()[0], before[0]))
        before = model.get_weights()
    assert moved == [False, False, True, False, False, True]
    # Six steps of two epochs of twelve: an eighth of a turn down the cosine, which ends at zero.
    np.testing.assert_allclose(model.optimizer.learning_rate, 0.5 * (1 + np.cos(np.pi * 6 / 24)) / 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"precision": "float8"}, "`precision` must be one of 'float32', 'bfloat16', 'float16'"),
        ({"gradient_accumulation_steps": 1}, "`gradient_accumulation_steps` must be an integer of at least 2"),
        ({"keep": "first"}, "`keep` must be one of 'last', 'best'"),
        ({"patience": 0}, "`patience` must be an integer of at least 1"),
    ],
)
def test_illegal_settings_are_refused(settings, rule):
    with pytest.raises(InputError, match=rule):
        Recipe(1, 4, 0.1, **settings)


def test_steps_that_python_does_not_hear_of_must_divide_an_epoch():
    with pytest.raises(InputError, match="`steps_per_execution` must divide the steps of an epoch"):
        network(RECIPE.replaced(steps_per_execution=5))


def small_perceiver(precision, **size):
    size = {**TINY_MODEL, **size}
    return build_classifier((8, 8, 1), 10, dtype=PRECISIONS[precision], **size)


@pytest.mark.parametrize("trained", PRECISIONS)
def test_a_file_that_was_trained_in_one_precision_loads_in_all(trained, tmp_path):
    keras.utils.set_random_seed(1)
    model = small_perceiver(trained)
    Recipe(1, 4, 0.01, jit_compile=False, precision=trained).compile(model, 12)
    model.run_eagerly = True
    x, y = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32"), np.eye(10, dtype="float32")[:4]
    for _ in range(2):
        model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    logits = {}
    for precision in PRECISIONS:
        other = small_perceiver(precision)
        other.load_weights(tmp_path / "model.keras")
        for ours, theirs in zip(other.get_weights(), model.get_weights(), strict=True):
            assert ours.dtype == np.float32
            np.testing.assert_array_equal(ours, theirs)
        logits[precision] = np.asarray(other(x))
    assert np.abs(logits["float32"]).max() > 1e-3
    for precision in ("bfloat16", "float16"):
        assert 0 < np.abs(logits[precision] - logits["float32"]).max() < 0.1 * np.abs(logits["float32"]).max()


def digits_accuracy(precision, epochs, **size):
    """On the test split, of a run on the handwritten digits."""
    source = load_source("digits")
    recipe = Recipe(epochs, 64, 6e-3, warmup_fraction=0.1, jit_compile=False, precision=precision)
    keras.utils.set_random_seed(1)
    model = small_perceiver(precision, **size)
    recipe.compile(model, len(source.splits["train"]) // recipe.batch_size)
    fit(model, source, recipe, seed=0)
    return evaluate_model(model, source)["accuracy"]


@pytest.mark.parametrize(
    ("epochs", "least", "noise"), [(6, 0.5, 0.12), pytest.param(40, 0.9, 0.03, marks=pytest.mark.thorough)]
)
def test_all_precisions_learn_digits_alike(epochs, least, noise):
    found = {name: digits_accuracy(name, epochs, num_latents=8, latent_dim=32) for name in PRECISIONS}
    assert min(found.values()) > least, found
    assert max(found.values()) - min(found.values()) < noise, found
