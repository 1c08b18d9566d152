"""The network for clouds of points that a Perceiver is compared with."""

import numpy as np
from keras import layers, ops

from keras_perceiver._checks import require_between, require_positive
from keras_perceiver.models.encoder import NUM_COORDINATES
from keras_perceiver.models.network_inputs import classifier, network_input, with_positions, zeros_where_padded


def build_pointnet(
    input_shape,
    num_classes,
    *,
    width=16,
    input_transform=False,
    dropout_rate=0.3,
    num_bands=0,
    max_resolution=None,
    permute_seed=None,
    name="pointnet",
    dtype=None,
):
    """Builds a PointNet; with `width=64` the one of Qi et al. 2017 without transforms, which has 0.8 M parameters.

    Each point passes the same small network, the maximum over all points is what is known of the cloud. Its prior is
    that a cloud is a set: no order, and no neighbours either. The Perceiver's paper compares with PointNet++, which
    looks at neighbourhoods that are chosen point by point; this is what that network is made of, and all of it is
    matrix products.

    Padded points take part in nothing: neither in the maximum nor in the means of the normalisations. The transform of
    64 features, and the loss that it needs to stay orthogonal, are left out.

    Args:
        input_shape: `{"points": (M, 3 + e)}`: coordinates x, y, z and e features; the model takes a mask with it.
        num_classes: number of logits.
        width: channels of the first of five layers; the last has 16 times as many. Narrow by default, for small data.
        input_transform: whether another such network turns each cloud by a 3x3 matrix first.
        dropout_rate: in [0, 1), before the logits.
        num_bands: K, Fourier bands per coordinate that are concatenated to the points; 0 for raw points.
        max_resolution: μ of these; None for 2K, which makes the frequencies 1, 2, .., K.
        permute_seed: of one permutation of all points, which changes nothing; None keeps their order.
        name: of the model.
        dtype: dtype policy of all layers; None for Keras' global policy. Logits are at least float32.

    Returns:
        A functional `keras.Model`: `{"points": (B, M, 3 + e), "points_padding_mask": (B, M) bool}` -> (B, num_classes)
        logits.

    Raises:
        InputError: where `input_shape` is no cloud's, or a number is out of its range.

    Reference: Qi et al. 2017, "PointNet: Deep Learning on Point Sets", section 4.2, figure 2 and table 6.
    """
    require_positive(num_classes=num_classes, width=width)
    require_between(0, 1, dropout_rate=dropout_rate)
    inputs, content, mask = network_input("pointnet", input_shape)
    if input_transform:
        content = _turned(content, mask, width, dtype)
    x, mask = with_positions(
        input_shape,
        content,
        mask,
        num_bands=num_bands,
        permute_seed=permute_seed,
        dtype=dtype,
        max_resolution=max_resolution,
    )
    widths = (width, width, width, 2 * width, 16 * width)
    x = _cloud_features(x, mask, widths, "point", dtype)  # (B, 16 · width)
    x = _dense(x, 8 * width, "cloud_1", dtype)
    x = _dense(x, 4 * width, "cloud_2", dtype)
    x = layers.Dropout(dropout_rate, name="dropout", dtype=dtype)(x)
    return classifier(inputs, x, num_classes, name, dtype)


def _turned(content, mask, width, dtype):
    """The cloud with its coordinates times a 3x3 matrix, which begins as the identity."""
    coordinates, features = content[..., :NUM_COORDINATES], content[..., NUM_COORDINATES:]
    x = _cloud_features(coordinates, mask, (width, 2 * width, 16 * width), "transform_point", dtype)
    x = _dense(_dense(x, 8 * width, "transform_1", dtype), 4 * width, "transform_2", dtype)
    x = layers.Dense(NUM_COORDINATES**2, kernel_initializer="zeros", name="transform_matrix", dtype=dtype)(x)
    matrix = ops.reshape(x, (-1, NUM_COORDINATES, NUM_COORDINATES)) + np.eye(NUM_COORDINATES, dtype="float32")
    return ops.concatenate([ops.matmul(coordinates, matrix), features], axis=-1)


def _cloud_features(x, mask, widths, name, dtype):
    """The same layers for every point, and the maximum over the real ones: (B, M, C) -> (B, last width).

    Behind a ReLU nothing is less than the zeros that stand for padded points.
    """
    for number, width in enumerate(widths):
        x = _dense(x, width, f"{name}_{number + 1}", dtype, mask=mask)  # (B, M, width)
    return ops.max(zeros_where_padded(x, mask), axis=1)


def _dense(x, width, name, dtype, mask=None):
    """Linear map, batch normalisation over what is real, ReLU."""
    x = layers.Dense(width, use_bias=False, kernel_initializer="he_normal", name=name, dtype=dtype)(x)
    x = layers.BatchNormalization(name=f"{name}_norm", dtype=dtype)(x, **({} if mask is None else {"mask": mask}))
    return layers.ReLU(name=f"{name}_relu", dtype=dtype)(x)
