"""The convolutional networks that a Perceiver is compared with, and what all such networks share."""

from contextlib import contextmanager

import keras
from keras import layers

from keras_perceiver._checks import require, require_positive
from keras_perceiver.layers import ConcatenatedBytes, FourierPositions
from keras_perceiver.models.classifier import logits_dtype
from keras_perceiver.models.encoder import with_policy

LARGE = 128  # pixels: from this size on a picture is made smaller before the first block, as in the paper of ResNets


def build_resnet18(
    input_shape, num_classes, *, width=16, num_bands=None, permute_seed=None, name="resnet18", dtype=None
):
    """Builds a residual network of 18 layers for pictures; with `width=64` that of He et al. 2016.

    Its priors are what a Perceiver does without: neighbouring pixels belong together, and everywhere alike. Narrow by
    default, so that it suits small data and costs about as much as a small Perceiver.

    Args:
        input_shape: (H, W, c) of one picture.
        num_classes: number of logits.
        width: channels of the first of four stages; each later one has twice as many.
        num_bands: K, Fourier bands per axis that are concatenated to the pixels; None for raw pixels.
        permute_seed: of one permutation of all pixels, Fourier features included; None keeps their order.
        name: of the model.
        dtype: dtype policy of all layers; None for Keras' global policy. Logits are at least float32.

    Returns:
        A functional `keras.Model`: pictures (B, H, W, c) -> (B, num_classes) logits.

    Raises:
        InputError: where `input_shape` is no picture's, or a number is not positive.

    Reference: He et al. 2016, "Deep Residual Learning for Image Recognition", table 1.
    """
    require_positive(num_classes=num_classes, width=width)
    inputs, x = picture_input(input_shape, num_bands, permute_seed, dtype)
    is_large = min(input_shape[:2]) >= LARGE
    x = _convolution(x, width, 7 if is_large else 3, 2 if is_large else 1, "stem", dtype)  # (B, H, W, width)
    if is_large:
        x = layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pooling", dtype=dtype)(x)
    for stage in range(4):
        for block in range(2):
            strides = 2 if stage > 0 and block == 0 else 1
            x = _residual_block(x, width * 2**stage, strides, f"stage_{stage + 1}_block_{block + 1}", dtype)
    x = layers.GlobalAveragePooling2D(name="pixel_mean", dtype=dtype)(x)  # (B, 8 · width)
    return classifier(inputs, x, num_classes, name, dtype)


def build_resnet50(input_shape, num_classes, *, num_bands=None, permute_seed=None, name="resnet50", dtype=None):
    """Builds the residual network of 50 layers of `keras.applications`, untrained: the paper's yardstick for pictures.

    Args:
        input_shape: (H, W, c) of one picture.
        num_classes, num_bands, permute_seed, name, dtype: see `build_resnet18`.

    Returns:
        A functional `keras.Model`: pictures (B, H, W, c) -> (B, num_classes) logits.

    Raises:
        InputError: where `input_shape` is no picture's, or a number is not positive.

    Reference: He et al. 2016, "Deep Residual Learning for Image Recognition", table 1.
    """
    require_positive(num_classes=num_classes)
    inputs, x = picture_input(input_shape, num_bands, permute_seed, dtype)
    with _global_policy(dtype):
        network = keras.applications.ResNet50(include_top=False, weights=None, input_tensor=x, pooling="avg")
    return classifier(inputs, network.output, num_classes, name, dtype)  # from (B, 2048)


def picture_input(input_shape, num_bands, permute_seed, dtype):
    """Input of a picture, and its pixels as a network takes them: (B, H, W, c) or, with positions, (B, H, W, C)."""
    require(
        isinstance(input_shape, (list, tuple)) and len(input_shape) == 3 and None not in input_shape,
        "`input_shape` must be (H, W, c): this network is made for pictures",
        input_shape=input_shape,
    )
    inputs = keras.Input(input_shape, name="inputs")
    segment = {"content": inputs, "tables": []}
    if num_bands is not None:
        segment = FourierPositions(num_bands, name="inputs_positions", dtype=dtype)(inputs)
    if num_bands is None and permute_seed is None:
        return inputs, inputs
    return inputs, ConcatenatedBytes(permute_seed, name="inputs_concatenated", dtype=dtype)(segment)["content"]


def classifier(inputs, features, num_classes, name, dtype):
    """The model that ends in one linear map from (B, features) to the logits."""
    logits = layers.Dense(num_classes, name="logits", dtype=logits_dtype(dtype))(features)
    return with_policy(keras.Model(inputs, logits, name=name), dtype)


def _residual_block(x, channels, strides, name, dtype):
    """Two convolutions beside a connection that skips them."""
    y = _convolution(x, channels, 3, strides, f"{name}_1", dtype)
    y = _convolution(y, channels, 3, 1, f"{name}_2", dtype, activation=None)
    if strides > 1 or x.shape[-1] != channels:
        x = _convolution(x, channels, 1, strides, f"{name}_skip", dtype, activation=None)
    return layers.ReLU(name=f"{name}_output", dtype=dtype)(layers.Add(name=f"{name}_sum", dtype=dtype)([x, y]))


def _convolution(x, channels, size, strides, name, dtype, activation="relu"):
    """Convolution, batch normalisation, and perhaps an activation."""
    convolution = layers.Conv2D(
        channels, size, strides, "same", use_bias=False, kernel_initializer="he_normal", name=name, dtype=dtype
    )
    x = layers.BatchNormalization(name=f"{name}_norm", dtype=dtype)(convolution(x))
    return x if activation is None else layers.Activation(activation, name=f"{name}_{activation}", dtype=dtype)(x)


@contextmanager
def _global_policy(dtype):
    """Keras' global policy, as `keras.applications` has no argument for it."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype or before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
