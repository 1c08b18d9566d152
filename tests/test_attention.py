import math

import numpy as np
import oracle
import pytest
import tensorflow as tf
from keras import ops

from keras_perceiver import attention
from keras_perceiver.attention import ByteProjection

RNG = np.random.default_rng(0)


def test_two_keys_by_hand():
    # Head width 4: the score 2 ln 3 / sqrt(4) = ln 3 beats 0 by 3 : 1, so the value is (3·4 + 1·8) / 4.
    query = np.array([[[[2 * math.log(3), 0, 0, 0]]]])
    key = np.array([[[[1.0, 0, 0, 0], [0, 1, 0, 0]]]])
    value = np.array([[[[4.0, 0, 0, 1], [8, 0, 1, 0]]]])
    np.testing.assert_allclose(attention.dot_product_attention(query, key, value)[0, 0], [[5, 0, 0.25, 0.75]])
    np.testing.assert_allclose(oracle.attend(query[0, 0, 0], key[0, 0], value[0, 0]), [5, 0, 0.25, 0.75])


@pytest.mark.parametrize(
    ("mask", "expected"), [([True, False], 4.0), ([False, True], 8.0), ([True, True], 5.0), ([False, False], 0.0)]
)
def test_masks_by_hand(mask, expected):
    query, key, value = np.array([[[[math.log(3)]]]]), np.array([[[[1.0], [0]]]]), np.array([[[[4.0], [8]]]])
    attended = attention.dot_product_attention(query, key, value, np.array(mask))
    np.testing.assert_allclose(attended, [[[[expected]]]], rtol=1e-12)
    np.testing.assert_allclose(oracle.attend(query[0, 0, 0], key[0, 0], value[0, 0], mask), [expected], rtol=1e-12)


def test_layer_norm_by_hand():
    normed = attention.layer_norm(np.array([1.0, 3.0]), np.array([2.0, 1.0]), np.array([0.0, 5.0]), 1e-5)
    scale = 1 / math.sqrt(1 + 1e-5)
    np.testing.assert_allclose(normed, [-2 * scale, 5 + scale], rtol=1e-12)


def test_layer_norm_survives_a_large_mean():
    x = (1000 + RNG.normal(size=(7, 5))).astype("float32")
    expected = oracle.layer_norm({"gamma": 1.0, "beta": 0.0}, x.astype("float64"))
    np.testing.assert_allclose(attention.layer_norm(x, np.float32(1), np.float32(0), 1e-5), expected, atol=1e-3)


def test_heads_by_hand():
    x = np.arange(1 * 2 * 6).reshape(1, 2, 6)
    split = ops.convert_to_numpy(attention.split_heads(x, 3))
    np.testing.assert_array_equal(split[0], [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]])
    np.testing.assert_array_equal(attention.merge_heads(split), x)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_several_heads_equal_the_oracle(dtype, tolerance, masked):
    query, key, value = (RNG.normal(size=(2, length, 5 * 11)) for length in (3, 7, 7))
    mask = RNG.random((2, 7)) < 0.6 if masked else None
    expected = oracle.attention(query, key, value, 5, mask)
    split = [attention.split_heads(ops.convert_to_tensor(x, dtype), 5) for x in (query, key, value)]
    attended = attention.dot_product_attention(*split, None if mask is None else mask[:, None, None, :])
    np.testing.assert_allclose(attention.merge_heads(attended), expected, atol=tolerance)


def projection(channels, width, dtype="float64"):
    shapes = [(channels,), (channels,), (channels, width), (width,), (channels, width), (width,)]
    return ByteProjection(*(ops.convert_to_tensor(RNG.normal(size=s), dtype) for s in shapes))


def oracle_cross_attention(query, rows, weights, num_heads, mask=None):
    gamma, beta, key_kernel, key_bias, value_kernel, value_bias = map(np.asarray, weights)
    normed = oracle.layer_norm({"gamma": gamma, "beta": beta}, rows)
    return oracle.attention(query, normed @ key_kernel + key_bias, normed @ value_kernel + value_bias, num_heads, mask)


@pytest.mark.parametrize("num_heads", [1, 3])
def test_cross_attention_equals_the_oracle(num_heads):
    weights = projection(13, num_heads * 11)
    query, rows = RNG.normal(size=(2, 3, num_heads * 11)), RNG.normal(size=(2, 7, 13))
    expected = oracle_cross_attention(query, rows, weights, num_heads)
    attended = attention.dense_cross_attention(query, rows, weights, num_heads=num_heads, epsilon=1e-5)
    np.testing.assert_allclose(attended, expected, atol=1e-10)


def test_a_fully_masked_example_is_zero_with_gradients_of_zero():
    weights = projection(13, 11)
    query = tf.constant(RNG.normal(size=(2, 3, 11)))
    content = tf.constant(RNG.normal(size=(2, 7, 13)))
    mask = np.array([[True] * 7, [False] * 7])
    with tf.GradientTape() as tape:
        tape.watch([query, content, *weights])
        segment = {"content": content, "tables": [], "padding_mask": mask}
        attended = attention.dense_cross_attention(query, segment, weights, num_heads=1, epsilon=1e-5)
        loss = tf.reduce_sum(attended**2)
    gradients = [g.numpy() for g in tape.gradient(loss, [query, content, *weights])]
    assert (attended[1].numpy() == 0).all()
    assert (attended[0].numpy() != 0).all()
    assert all(np.isfinite(g).all() for g in gradients)
    for gradient in gradients[:2]:
        assert (gradient[1] == 0).all()
        assert (gradient[0] != 0).all()


def test_scores_of_any_size_stay_finite():
    query, key, value = (1e4 * RNG.normal(size=(1, 1, length, 5)).astype("float32") for length in (3, 7, 7))
    attended = attention.dot_product_attention(query, key, value, np.arange(7) < 5)
    assert np.isfinite(attended).all()
    np.testing.assert_allclose(
        attention.merge_heads(attended),
        oracle.attention(*(x[:, 0].astype("float64") for x in (query, key, value)), 1, np.arange(7)[None] < 5),
        rtol=1e-5,
    )


def test_the_softmax_of_half_precision_is_float32():
    # 300 equal scores: each weight is 1/300; summed in bfloat16 the denominator would stop growing at 256.
    query, key = np.zeros((1, 1, 1, 2)), np.zeros((1, 1, 300, 2))
    value = np.ones((1, 1, 300, 2))
    attended = attention.dot_product_attention(*(ops.cast(x, "bfloat16") for x in (query, key, value)))
    np.testing.assert_allclose(ops.cast(attended, "float32"), 1, atol=0.01)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("bfloat16", "float32"), ("float16", "float32"), ("float32", "float32"), ("float64", "float64")],
)
def test_at_least_float32(dtype, expected):
    assert attention.at_least_float32(dtype) == expected


def by_autodiff(query_key_value, num_heads, mask):
    """The textbook form of `self_attention`, which has no gradient of its own."""
    parts = [attention.split_heads(x, num_heads) for x in tf.split(query_key_value, 3, axis=-1)]
    return attention.merge_heads(
        attention.dot_product_attention(*parts, None if mask is None else mask[:, None, None, :])
    )


def value_and_gradient(function, query_key_value, *arguments):
    cotangent = np.random.default_rng(1).normal(size=(*query_key_value.shape[:2], query_key_value.shape[2] // 3))
    with tf.GradientTape() as tape:
        tape.watch(query_key_value)
        answer = function(query_key_value, *arguments)
        loss = tf.reduce_sum(answer * tf.cast(cotangent, answer.dtype))
    return answer, tape.gradient(loss, query_key_value)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("size", "tolerance"), [(1, 1e-12), (30, 1e-10)])
def test_gradients_of_self_attention_are_those_of_the_textbook_form(size, tolerance, masked):
    """Also where the softmax is all but saturated; a row of which all are masked has none."""
    x = tf.constant(size * RNG.normal(size=(3, 7, 3 * 10)))
    mask = np.array([[True] * 4 + [False] * 3, [False] * 7, [False] * 6 + [True]]) if masked else None
    answer, gradient = value_and_gradient(attention.self_attention, x, 5, mask)
    expected, expected_gradient = value_and_gradient(by_autodiff, x, 5, mask)
    np.testing.assert_allclose(answer, expected, atol=tolerance * size)
    np.testing.assert_allclose(gradient, expected_gradient, atol=tolerance * size**2)
    assert np.abs(gradient).max() > 1e-3
    if masked:
        assert not np.abs(gradient[1]).any()
        assert not np.abs(gradient[0, 4:, 10:]).any()  # as keys and values


def test_saturated_self_attention_has_no_slope_in_float32():
    """At scores of 1e4, where the weights that are computed again differ from the first ones in their rounding."""
    x = RNG.normal(size=(2, 9, 24))
    x[..., :16] *= 150
    exact = value_and_gradient(attention.self_attention, tf.constant(x), 2)[1]
    found = value_and_gradient(attention.self_attention, tf.constant(x, tf.float32), 2)[1]
    np.testing.assert_allclose(found, exact, atol=0.02)


def test_gradients_of_self_attention_keep_no_array_of_all_pairs():
    length = 13

    def kept(function):
        traced = tf.function(lambda x: value_and_gradient(function, x, 2, None)[1], autograph=False)
        graph = traced.get_concrete_function(tf.TensorSpec((2, length, 24))).graph
        forward = [op for op in graph.get_operations() if "gradient_tape" not in op.name]
        pairs = [x for op in forward for x in op.outputs if x.shape.rank and list(x.shape[-2:]) == [length, length]]
        assert pairs
        return [x for x in pairs if any("gradient_tape" in op.name for op in x.consumers())]

    assert kept(by_autodiff)
    assert not kept(attention.self_attention)
