import numpy as np
import oracle
import pytest
from layer_checks import assert_close, check_layer, randomised

from keras_perceiver import SelfAttention
from keras_perceiver._checks import InputError

X = np.random.default_rng(0).normal(size=(2, 3, 55)).astype("float32")


def test_it_is_a_layer(tmp_path):
    key_bias = ("query_key_value/bias", slice(55, 110))  # adds the same to all scores of a query
    check_layer(tmp_path, SelfAttention, {"num_heads": 5, "widening_factor": 2}, {"latents": X}, cancelled=[key_bias])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-8)])
@pytest.mark.parametrize("num_heads", [1, 5, 11])
def test_it_equals_the_oracle(dtype, tolerance, num_heads):
    layer = randomised(SelfAttention(num_heads, name="layer", dtype=dtype), {"latents": X})
    expected = oracle.self_attention(oracle.weights_of(layer), X.astype("float64"), num_heads)
    assert_close(layer(X), expected, tolerance)


def test_latents_see_each_other_in_any_order():
    layer = randomised(SelfAttention(5), {"latents": X})
    order = [2, 0, 1]
    np.testing.assert_allclose(layer(X[:, order]), np.asarray(layer(X))[:, order], atol=1e-5)
    moved = X.copy()
    moved[:, 2, 7] += 1
    change = np.abs(np.asarray(layer(moved)) - layer(X)).max(axis=-1)
    assert (change > 1e-3).all()


def test_fresh_weights_leave_the_latents_on_their_scale():
    x = np.random.default_rng(0).normal(size=(1, 101, 64)).astype("float32")
    assert 1 < np.asarray(SelfAttention(8)(x)).std() < 2


def test_heads_must_divide_the_channels():
    with pytest.raises(InputError, match=r"`num_heads` must divide .* num_heads=7, latent_dim=55\."):
        SelfAttention(7)(X)


def test_a_padded_row_is_attended_to_by_none():
    layer = randomised(SelfAttention(5), {"latents": X})
    mask = np.array([[True, True, False], [True, True, True]])
    masked = np.asarray(layer(X, padding_mask=mask))
    np.testing.assert_allclose(masked[0, :2], np.asarray(layer(X[:1, :2]))[0], atol=1e-5)
    np.testing.assert_allclose(masked[1], np.asarray(layer(X))[1], atol=1e-5)
