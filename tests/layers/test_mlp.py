import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf
from layer_checks import assert_close, check_layer, randomised

from keras_perceiver import MLP
from keras_perceiver.layers.mlp import gelu

X = np.random.default_rng(0).normal(size=(2, 3, 11)).astype("float32")


def test_it_is_a_layer(tmp_path):
    check_layer(tmp_path, MLP, {"widening_factor": 3}, {"inputs": X})


# In float64, TensorFlow rounds the constant 0.044715 of its GELU to float32: 1e-9.
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-8)])
@pytest.mark.parametrize("widening_factor", [1, 3])
def test_it_equals_the_oracle(dtype, tolerance, widening_factor):
    layer = randomised(MLP(widening_factor, name="mlp", dtype=dtype), {"inputs": X})
    assert_close(layer(X), oracle.mlp(oracle.weights_of(layer), X.astype("float64")), tolerance)


def test_the_gelu_is_the_tanh_form():
    layer = MLP(dtype="float64")
    layer(np.zeros((1, 1)))
    layer.set_weights([np.ones((1, 1)), np.zeros(1), np.ones((1, 1)), np.zeros(1)])
    # tanh form at 1: 0.5 (1 + tanh(sqrt(2/π) · 1.044715)) = 0.8411920; the exact form is 0.8413447.
    np.testing.assert_allclose(layer(np.ones((1, 1))), [[0.8411920]], atol=1e-7)
    np.testing.assert_allclose(oracle.gelu(np.ones(1)), [0.8411920], atol=1e-7)


def test_any_number_of_axes_will_do():
    layer = MLP()
    assert layer(np.zeros((2, 11), "float32")).shape == (2, 11)
    assert layer(np.zeros((2, 3, 5, 11), "float32")).shape == (2, 3, 5, 11)
    assert layer(keras.Input((None, 11))).shape == (None, None, 11)


def test_the_gradient_of_the_gelu_is_that_of_its_formula():
    """Also far out, where the tanh is 1 to the last bit; by TensorFlow's own gradient of the formula, in float64."""
    x = tf.constant(np.concatenate([np.linspace(-40, 40, 161), np.linspace(-1, 1, 41)]))
    for dtype, tolerance in (("float64", 1e-8), ("float32", 2e-6)):
        found = tf.cast(x, dtype)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([x, found])
            expected = x * (1 + tf.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2
            answer = gelu(found)
        np.testing.assert_allclose(answer, expected, atol=tolerance)
        np.testing.assert_allclose(tape.gradient(answer, found), tape.gradient(expected, x), atol=tolerance)
