"""Pure functions: softmax attention of few queries over a byte array, and of the latents over themselves."""

import math
from typing import Any, NamedTuple

from keras import ops

from keras_perceiver import byte_arrays
from keras_perceiver._gradients import after, cotangents

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
    weights = _weights(_scores(query * (1 / math.sqrt(query.shape[-1])), key, mask), mask)
    return ops.matmul(ops.cast(weights, value.dtype), value)


def _scores(query, key, mask):
    """`Q Kᵀ` (B, h, N, M) in at least float32; `MASKED_SCORE` where the mask is False."""
    scores = ops.matmul(query, _transposed(key))
    scores = ops.cast(scores, at_least_float32(scores.dtype))
    return scores if mask is None else ops.where(mask, scores, MASKED_SCORE)


def _weights(scores, mask):
    """Softmax over the last axis; zero where the mask is False."""
    weights = softmax(scores)
    return weights if mask is None else ops.where(mask, weights, 0.0)


def self_attention(query_key_value, num_heads, mask=None):
    """`softmax(Q Kᵀ / sqrt(k)) V` per head, of rows over each other, the softmax in at least float32.

    For gradients nothing is kept but what comes in and the largest score of each query: the weights are computed again.

    Args:
        query_key_value: (B, N, 3·h·k): queries, keys and values side by side, each with its heads side by side.
        num_heads: h.
        mask: optional (B, N) bool, True where a row may be attended to.

    Returns:
        (B, N, h·k); a row with none to attend to is zero.
    """
    batch, length, width = ops.shape(query_key_value)
    head_dim = width // 3 // num_heads
    heads = ops.reshape(query_key_value, (batch, length, 3, num_heads, head_dim))
    real = [] if mask is None else [ops.cast(mask, "float32")]  # backends want numbers where there are gradients
    return merge_heads(_attend(1 / math.sqrt(head_dim))(ops.transpose(heads, (2, 0, 3, 1, 4)), *real))


def _attend(scale):
    """A function of heads, (3, B, h, N, k) of queries, keys and values, and perhaps (B, N), 1 where a row is real."""

    @ops.custom_gradient
    def attend(heads, *real):
        mask = real[0][:, None, None, :] > 0 if real else None  # (B, 1, 1, N), of keys
        scores = _scores(heads[0] * scale, heads[1], mask)  # (B, h, N, N)
        top = ops.max(scores, axis=-1, keepdims=True)
        attended = ops.matmul(ops.cast(_weights(scores, mask), heads.dtype), heads[2])  # (B, h, N, k)

        def gradient(*arguments, upstream=None):
            (cotangent,) = cotangents(arguments, upstream)
            again = after(heads, cotangent)
            query, key, value = again[0] * scale, again[1], again[2]
            # Transposed, (B, h, keys, queries), as the products below want them.
            mask = real[0][:, None, :, None] > 0 if real else None
            weights = ops.exp(_scores(key, query, mask) - _transposed(top))
            weights = weights if mask is None else ops.where(mask, weights, 0.0)
            # The sum is 1 at least, but for rounding, where any key is real. By it, and not by that of the forward
            # pass: where one weight is 1, its slope is then 0 to the last bit.
            weights = weights / ops.maximum(ops.sum(weights, axis=-2, keepdims=True), 0.5)
            slopes = ops.cast(ops.matmul(value, _transposed(cotangent)), weights.dtype)
            slopes = slopes - ops.sum(weights * slopes, axis=-2, keepdims=True)
            of_scores = ops.cast(weights * slopes, heads.dtype)
            of_query = ops.matmul(_transposed(of_scores), key) * scale
            of_value = ops.matmul(ops.cast(weights, heads.dtype), cotangent)
            of_heads = ops.stack([of_query, ops.matmul(of_scores, query), of_value])
            return (of_heads, *map(ops.zeros_like, real)) if real else of_heads

        return attended, gradient

    return attend


def _transposed(x):
    """(.., N, M) -> (.., M, N)."""
    return ops.swapaxes(x, -1, -2)


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
