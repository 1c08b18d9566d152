"""Pure functions: softmax attention of few queries over a byte array, and of the latents over themselves."""

import math
from typing import Any, NamedTuple

from keras import ops

from keras_perceiver import byte_arrays

MASKED_SCORE = -1e30  # below every score that is possible, and finite: a row of them has no NaN


class ByteProjection(NamedTuple):
    """The weights between a byte array of C channels and its keys and values of width h·k.

    LayerNorm scale `gamma` (C,) and offset `beta` (C,); kernels (C, h·k) and biases (h·k,).
    """

    gamma: Any
    beta: Any
    key_kernel: Any
    key_bias: Any
    value_kernel: Any
    value_bias: Any


def dense_cross_attention(query, byte_array, projection, *, num_heads, epsilon):
    """The textbook form: builds, normalises and projects all M bytes, then attends to them.

    `softmax(Q Kᵀ / sqrt(k)) V` with K and V projected from `LayerNorm(byte_array)`. It is the
    readable reference that every faster form has to equal.

    Args:
        query: (B, N, h·k) in at least float32, already projected.
        byte_array: see `keras_perceiver.layers`.
        projection: `ByteProjection`, in the dtype of `query`.
        num_heads: h.
        epsilon: of the LayerNorm over the C channels of a byte.

    Returns:
        (B, N, h·k), the heads side by side; zero for an example whose bytes are all masked.
    """
    x, mask = byte_arrays.materialize(byte_array, query.dtype)  # (B, M, C), (B, M)
    x = layer_norm(x, projection.gamma, projection.beta, epsilon)
    key = split_heads(ops.matmul(x, projection.key_kernel) + projection.key_bias, num_heads)  # (B, h, M, k)
    value = split_heads(ops.matmul(x, projection.value_kernel) + projection.value_bias, num_heads)
    mask = None if mask is None else mask[:, None, None, :]  # (B, 1, 1, M)
    return merge_heads(dot_product_attention(split_heads(query, num_heads), key, value, mask))


def layer_norm(x, gamma, beta, epsilon):
    """LayerNorm over the last axis, with the variance taken about the mean."""
    centred = x - ops.mean(x, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
    return centred * ops.rsqrt(variance + epsilon) * gamma + beta


def dot_product_attention(query, key, value, mask=None):
    """`softmax(Q Kᵀ / sqrt(k)) V` per head, the softmax in at least float32.

    Args:
        query: (B, h, N, k). key, value: (B, h, M, k).
        mask: optional bool, broadcastable to (B, h, N, M), True where a key may be attended to.

    Returns:
        (B, h, N, k) in the dtype of `value`; a row with no key to attend to is zero.
    """
    scores = ops.matmul(query * (1 / math.sqrt(query.shape[-1])), ops.transpose(key, (0, 1, 3, 2)))  # (B, h, N, M)
    scores = ops.cast(scores, at_least_float32(scores.dtype))
    weights = softmax(scores if mask is None else ops.where(mask, scores, MASKED_SCORE))
    if mask is not None:
        weights = ops.where(mask, weights, 0.0)
    return ops.matmul(ops.cast(weights, value.dtype), value)


def softmax(scores):
    """Softmax over the last axis, which may have one element alone: Keras' own warns of that as of a mistake."""
    return ops.ones_like(scores) if scores.shape[-1] == 1 else ops.softmax(scores, axis=-1)


def split_heads(x, num_heads):
    """(B, N, h·k) -> (B, h, N, k)."""
    batch, length, width = ops.shape(x)
    return ops.transpose(ops.reshape(x, (batch, length, num_heads, width // num_heads)), (0, 2, 1, 3))


def merge_heads(x):
    """(B, h, N, k) -> (B, N, h·k)."""
    batch, heads, length, head_dim = ops.shape(x)
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (batch, length, heads * head_dim))


def at_least_float32(dtype):
    """`dtype`, or float32 where `dtype` is shorter."""
    return dtype if dtype in ("float32", "float64") else "float32"
