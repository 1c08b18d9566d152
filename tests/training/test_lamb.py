"""LAMB against its paper in NumPy, and against numbers of optax."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_perceiver._checks import InputError
from keras_perceiver.training import Lamb

GOLDEN = Path(__file__).parent.parent / "golden" / "optax_lamb.json"  # made by the script beside it
SHAPES = {"kernel": (3, 7), "bias": (7,), "zeros": (5,)}


def gradient(step, weight):
    """Any function of the step and the weight; that of the script which asked optax."""
    return weight + np.sin(step + np.arange(weight.size)).reshape(weight.shape)


def initial_weights():
    weights = {name: np.cos(np.arange(np.prod(shape))).reshape(shape) for name, shape in SHAPES.items()}
    return {**weights, "zeros": np.zeros(SHAPES["zeros"])}


class Rate(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.02 / (1 + 0.1 * keras.ops.cast(step, "float64"))

    def get_config(self):
        return {}


def oracle(steps, *, beta_1, beta_2, epsilon, weight_decay, no_decay):
    """Algorithm 2 of the paper, one number after the other."""
    weights = initial_weights()
    m, v = ({name: np.zeros_like(w) for name, w in weights.items()} for _ in range(2))
    for t in range(steps):
        for name, w in weights.items():
            g = gradient(t, w)
            m[name] = beta_1 * m[name] + (1 - beta_1) * g
            v[name] = beta_2 * v[name] + (1 - beta_2) * g * g
            r = (m[name] / (1 - beta_1 ** (t + 1))) / (np.sqrt(v[name] / (1 - beta_2 ** (t + 1))) + epsilon)
            u = r if name in no_decay else r + weight_decay * w
            lengths = np.linalg.norm(w), np.linalg.norm(u)
            ratio = lengths[0] / lengths[1] if min(lengths) > 0 else 1.0
            weights[name] = w - 0.02 / (1 + 0.1 * t) * ratio * u
    return weights


def trained(optimizer, steps, dtype="float64"):
    variables = [keras.Variable(w, dtype=dtype, name=name) for name, w in initial_weights().items()]
    for step in range(steps):
        gradients = [keras.ops.cast(gradient(step, v.numpy().astype("float64")), dtype) for v in variables]
        optimizer.apply(gradients, variables)
    return {v.name: v.numpy() for v in variables}


@pytest.mark.parametrize("steps", [1, 2, 13])
def test_steps_are_those_of_the_paper(steps):
    settings = {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3, "weight_decay": 0.3, "no_decay": ("bias",)}
    for name, weight in trained(Lamb(Rate(), **settings), steps).items():
        np.testing.assert_allclose(weight, oracle(steps, **settings)[name], rtol=1e-12, atol=1e-14, err_msg=name)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6)])
def test_a_hundred_steps_are_those_of_optax(dtype, tolerance):
    content = json.loads(GOLDEN.read_text())
    names = {"b1": "beta_1", "b2": "beta_2", "eps": "epsilon", "weight_decay": "weight_decay"}
    settings = {names[name]: value for name, value in content["settings"].items()}
    for steps, expected in content["after"].items():
        found = trained(Lamb(Rate(), **settings, no_decay=("bias",)), int(steps), dtype)
        for name, weight in found.items():
            np.testing.assert_allclose(weight, expected[name], rtol=0, atol=tolerance, err_msg=f"{name} after {steps}")


def test_the_decay_is_inside_the_ratio_and_not_that_of_keras():
    keras_lamb = trained(keras.optimizers.Lamb(0.1, weight_decay=0.1), 5)["kernel"]
    ours = trained(Lamb(0.1, weight_decay=0.1), 5)["kernel"]
    moved = initial_weights()["kernel"] - ours
    assert np.linalg.norm(ours - keras_lamb) > 0.05 * np.linalg.norm(moved)
    same = trained(keras.optimizers.Lamb(0.1, epsilon=1e-6), 5)["kernel"]
    np.testing.assert_allclose(trained(Lamb(0.1), 5)["kernel"], same, rtol=1e-9)


def test_a_model_goes_on_from_its_file_as_if_it_had_not_been_saved(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(8, 3)), np.arange(8) % 2
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 50)
    optimizer = Lamb(schedule, beta_2=0.95, weight_decay=0.1, no_decay=("bias",), global_clipnorm=1.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    model.fit(x, y, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == optimizer.get_config()
    for each in (model, loaded):
        each.fit(x, y, epochs=3, verbose=0, shuffle=False)
    for ours, theirs in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6)


def test_eager_and_compiled_steps_are_the_same():
    found = []
    for options in ({}, {"jit_compile": True}):
        variable, optimizer = keras.Variable(np.arange(1.0, 6.0), name="kernel"), Lamb(0.1, weight_decay=0.2)
        optimizer.build([variable])
        step = tf.function(optimizer.apply, **options) if options else optimizer.apply
        for g in np.random.default_rng(0).normal(size=(3, 5)).astype("float32"):
            step([tf.constant(g)])
        found.append(variable.numpy())
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_weights_that_are_not_decayed_are_named_in_the_configuration_alone():
    with pytest.raises(InputError, match=r"must be named in `no_decay`.*\['bias'\]"):
        Lamb(weight_decay=0.1).exclude_from_weight_decay(var_names=["bias"])


@pytest.mark.parametrize(
    ("name", "value"), [("beta_1", 1.0), ("beta_2", -0.1), ("weight_decay", -1), ("epsilon", -1e-6), ("no_decay", "(")]
)
def test_an_illegal_argument_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"`{name}` must "):
        Lamb(**{name: value})
