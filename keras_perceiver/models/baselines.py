"""The convolutional networks that a Perceiver is compared with."""

from contextlib import contextmanager

import keras
from keras import layers

from keras_perceiver._checks import require_positive
from keras_perceiver.models.encoder import CONVOLUTIONS
from keras_perceiver.models.network_inputs import classifier, network_input, with_positions

LARGE = 128  # pixels: from this size on a picture is made smaller before the first block, as in the paper of ResNets
MAX_POOLING = {1: layers.MaxPooling1D, 2: layers.MaxPooling2D}
MEANS = {1: layers.GlobalAveragePooling1D, 2: layers.GlobalAveragePooling2D, 3: layers.GlobalAveragePooling3D}


def build_resnet18(input_shape, num_classes, *, width=16, num_bands=0, permute_seed=None, name="resnet18", dtype=None):
    """Builds a residual network of 18 layers; with `width=64` that of He et al. 2016 for pictures, R3D-18 for films.

    Its priors are what a Perceiver does without: neighbouring elements belong together, and everywhere alike. Narrow by
    default, so that it suits small data and costs about as much as a small Perceiver. Its convolutions are along all
    index axes: over spectrograms as over pictures, over raw samples, over the frames of films and their pixels.

    Args:
        input_shape: (S_1, .., S_d, c) of one example with d = 1, 2 or 3 index axes; or `{modality: (S_1, .., S_d, c)}`
            of modalities that come with masks: what is padded enters as zeros. Of several each has convolutions of its
            own, and their means are joined before the logits.
        num_classes: number of logits.
        width: channels of the first of four stages; each later one has twice as many.
        num_bands: K, Fourier bands per axis that are concatenated to the content; 0 for it alone.
        permute_seed: of one permutation of all elements, Fourier features included; None keeps their order.
        name: of the model.
        dtype: dtype policy of all layers; None for Keras' global policy. Logits are at least float32.

    Returns:
        A functional `keras.Model`: (B, S_1, .., S_d, c), or a dictionary with a mask -> (B, num_classes) logits.

    Raises:
        InputError: where the network is not made for `input_shape`, or a number is not positive.

    Reference: He et al. 2016, "Deep Residual Learning for Image Recognition", table 1; for films Tran et al. 2018, "A
    Closer Look at Spatiotemporal Convolutions for Action Recognition", table 1.
    """
    require_positive(num_classes=num_classes, width=width)
    options = {"num_bands": num_bands, "permute_seed": permute_seed, "dtype": dtype}
    if not isinstance(input_shape, dict) or len(input_shape) <= 1:
        inputs, x = _trunk(input_shape, width, "", **options)
        return classifier(inputs, x, num_classes, name, dtype)
    inputs, means = {}, []
    for modality, shape in input_shape.items():
        own, mean = _trunk({modality: shape}, width, f"{modality}_", **options)
        inputs |= own
        means.append(mean)
    x = layers.Concatenate(name="modalities_joined", dtype=dtype)(means)
    return classifier(inputs, x, num_classes, name, dtype)


def build_resnet50(input_shape, num_classes, *, num_bands=0, permute_seed=None, name="resnet50", dtype=None):
    """Builds the residual network of 50 layers of `keras.applications`, untrained: the paper's yardstick for pictures.

    Args:
        input_shape: (H, W, c) of one picture, or `{modality: (H, W, c)}` of spectrograms, which come with a mask.
        num_classes, num_bands, permute_seed, name, dtype: see `build_resnet18`.

    Returns:
        A functional `keras.Model`: (B, H, W, c), or a dictionary with a mask -> (B, num_classes) logits.

    Raises:
        InputError: where `input_shape` is no picture's, or a number is not positive.

    Reference: He et al. 2016, "Deep Residual Learning for Image Recognition", table 1.
    """
    require_positive(num_classes=num_classes)
    inputs, content, mask = network_input("resnet50", input_shape)
    x, _ = with_positions(input_shape, content, mask, num_bands=num_bands, permute_seed=permute_seed, dtype=dtype)
    with _global_policy(dtype):
        network = keras.applications.ResNet50(include_top=False, weights=None, input_tensor=x, pooling="avg")
    return classifier(inputs, network.output, num_classes, name, dtype)  # from (B, 2048)


def _trunk(input_shape, width, prefix, *, num_bands, permute_seed, dtype):
    """`(inputs, (B, 8 · width) means)` of one modality; the names of its layers begin with `prefix`."""
    inputs, content, mask = network_input("resnet18", input_shape)
    positions = {"num_bands": num_bands, "permute_seed": permute_seed, "dtype": dtype}
    x, _ = with_positions(input_shape, content, mask, name=f"{prefix}inputs", **positions)
    x = _stem(x, width, f"{prefix}stem", dtype)
    for stage in range(4):
        for block in range(2):
            strides = 2 if stage > 0 and block == 0 else 1
            x = _residual_block(x, width * 2**stage, strides, f"{prefix}stage_{stage + 1}_block_{block + 1}", dtype)
    return inputs, MEANS[len(x.shape) - 2](name=f"{prefix}pixel_mean", dtype=dtype)(x)


def _stem(x, width, name, dtype):
    """What stands before the first block, (B, .., width): films keep their frames, large pictures a sixteenth of their
    pixels, small ones all."""
    num_axes = len(x.shape) - 2
    if num_axes == 3:
        return _convolution(x, width, (3, 7, 7), (1, 2, 2), name, dtype)
    if min(x.shape[1:-1]) < LARGE:
        return _convolution(x, width, 3, 1, name, dtype)
    x = _convolution(x, width, 7, 2, name, dtype)
    return MAX_POOLING[num_axes](3, strides=2, padding="same", name=f"{name}_pooling", dtype=dtype)(x)


def _residual_block(x, channels, strides, name, dtype):
    """Two convolutions beside a connection that skips them."""
    y = _convolution(x, channels, 3, strides, f"{name}_1", dtype)
    y = _convolution(y, channels, 3, 1, f"{name}_2", dtype, activation=None)
    if strides > 1 or x.shape[-1] != channels:
        x = _convolution(x, channels, 1, strides, f"{name}_skip", dtype, activation=None)
    return layers.ReLU(name=f"{name}_output", dtype=dtype)(layers.Add(name=f"{name}_sum", dtype=dtype)([x, y]))


def _convolution(x, channels, size, strides, name, dtype, activation="relu"):
    """Convolution, batch normalisation, and perhaps an activation."""
    convolution = CONVOLUTIONS[len(x.shape) - 2](
        channels, size, strides, "same", use_bias=False, kernel_initializer="he_normal", name=name, dtype=dtype
    )
    # The authors' momentum: with Keras' 0.99 the statistics lag behind the weights of a run of a few hundred steps.
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm", dtype=dtype)(convolution(x))
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
