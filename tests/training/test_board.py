"""What TensorBoard shows, with callbacks in a `model.fit` of one's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_perceiver import build_classifier
from keras_perceiver._checks import InputError
from keras_perceiver.data import load_source
from keras_perceiver.training import PRECISIONS, AttentionImages, GradientNorms
from keras_perceiver.training.board import board_callbacks
from keras_perceiver.training.configuration import configuration
from keras_perceiver.training.recipes import Recipe
from tests.tiny import TINY_MODEL, TINY_RECIPE

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 3)).astype("float32"), RNG.normal(size=(12, 2)).astype("float32")


def network(optimizer, policy="float32", jit_compile=False):
    inputs = keras.Input((3,))
    model = keras.Model(
        inputs, keras.layers.Dense(2, dtype=policy)(keras.layers.Dense(5, "tanh", dtype=policy)(inputs))
    )
    model.dtype_policy = policy
    model.compile(optimizer, "mse", jit_compile=jit_compile)
    return model


def norms_of_batches(model):
    """By TensorFlow alone: of the gradients of each of three batches."""
    norms = []
    for start in range(0, 12, 4):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(X[start : start + 4]) - Y[start : start + 4]) ** 2)
        norms.append(float(tf.linalg.global_norm(tape.gradient(loss, model.trainable_variables))))
    return norms


def fit(model, callbacks=(), epochs=2):
    return model.fit(X, Y, batch_size=4, epochs=epochs, shuffle=False, verbose=0, callbacks=[*callbacks]).history


@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradient_norms_are_those_of_a_tape_whatever_is_clipped(jit_compile):
    """At a rate of zero the gradients of each epoch are the same."""
    model = network(keras.optimizers.SGD(0.0, clipnorm=1e-3), jit_compile=jit_compile)
    expected = norms_of_batches(model)
    fit(model, epochs=1)  # traced before: it must look nevertheless
    for _ in range(2):  # and again in a second `fit`
        history = fit(model, [GradientNorms()])
        np.testing.assert_allclose(history["gradient_norm"], [np.mean(expected)] * 2, rtol=1e-5)
        np.testing.assert_allclose(history["gradient_norm_max"], [max(expected)] * 2, rtol=1e-5)
    assert "gradient_norm" not in fit(model, epochs=1)
    assert model.optimizer.apply.__func__ is keras.optimizers.SGD.apply


def test_the_scale_of_a_float16_loss_is_no_part_of_the_norm():
    model = network(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.0)), "mixed_float16")
    expected = norms_of_batches(model)
    history = fit(model, [GradientNorms()], epochs=1)
    np.testing.assert_allclose(history["gradient_norm"], [np.mean(expected)], rtol=1e-2)


def test_it_changes_nothing_of_the_training():
    ends = []
    for callbacks in ([], [GradientNorms()]):
        keras.utils.set_random_seed(1)
        model = network(keras.optimizers.Adam(0.1))
        fit(model, callbacks)
        ends.append(model.get_weights())
    for one, other in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, other)


def tags(folder):
    """`{kind: names}` of what is in the event files of a folder."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return events, events.Tags()


def test_a_run_shows_figures_rate_norms_the_graph_and_attention(tmp_path):
    """`train` puts these callbacks behind its own; here they are in a plain `fit`."""
    source = load_source("digits")
    config = configuration(source, 0, "perceiver", TINY_MODEL, TINY_RECIPE)
    recipe = Recipe(2, 128, 0.01, jit_compile=False)
    model = build_classifier(**config["model"], dtype=PRECISIONS[recipe.precision])
    recipe.compile(model, 1)
    x, y = RNG.normal(size=(128, 8, 8, 1)), np.eye(10)[np.arange(128) % 10]
    callbacks = board_callbacks(tmp_path, source, config, recipe)
    model.fit(x, y, batch_size=128, epochs=2, validation_data=(x, y), callbacks=callbacks, verbose=0)
    events, found = tags(tmp_path / "train")
    names = ("loss", "accuracy", "learning_rate", "gradient_norm", "gradient_norm_max")
    assert {f"epoch_{name}" for name in names} <= set(found["tensors"])
    assert found["graph"]
    assert b"cross_attention_1" in events.Graph().SerializeToString()
    values = [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors("epoch_learning_rate")]
    assert values == pytest.approx([float(recipe.build_optimizer(1)._learning_rate(step)) for step in (1, 2)])
    assert {"epoch_loss", "epoch_accuracy"} <= set(tags(tmp_path / "validation")[1]["tensors"])
    events, found = tags(tmp_path / "attention")
    assert found["tensors"] == ["attention"]
    drawings = [tf.make_ndarray(event.tensor_proto) for event in events.Tensors("attention")]
    assert len(drawings) == 2
    pixels = [tf.io.decode_png(png).numpy() for _, _, png in drawings]
    assert pixels[0].shape == pixels[1].shape
    assert len(np.unique(pixels[0].reshape(-1, 3), axis=0)) > 50


def test_what_has_no_cross_attends_is_refused(tmp_path):
    model = network("sgd")
    with pytest.raises(InputError, match="`model` must be a Perceiver"):
        fit(model, [AttentionImages(tmp_path, X[0])], epochs=1)
    with pytest.raises(InputError, match=r"`modality` must be one of .*Did you mean 'image'"):
        AttentionImages(tmp_path, X[0], modality="images")
