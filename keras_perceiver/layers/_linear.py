"""The linear map and the normalisation that all layers share, with the paper's initial values."""

import keras

LAYER_NORM_EPSILON = 1e-5  # Keras' default is 1e-3
PACKAGE = "keras_perceiver"


def linear(units, name, dtype):
    """A linear map with a bias: variance scaling 1.0 over the fan-in, truncated normal; bias 0."""
    initializer = keras.initializers.VarianceScaling(1.0, "fan_in", "truncated_normal")
    return keras.layers.Dense(units, kernel_initializer=initializer, name=name, dtype=dtype)


def layer_norm(name, dtype):
    """LayerNorm over the channels, epsilon 1e-5."""
    return keras.layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, name=name, dtype=dtype)
