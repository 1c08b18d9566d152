import numpy as np
import oracle
import pytest
from layer_checks import assert_close, check_layer, randomised

from keras_perceiver import LatentTransformer
from keras_perceiver._checks import InputError

X = np.random.default_rng(0).normal(size=(2, 3, 55)).astype("float32")


def test_it_is_a_layer(tmp_path):
    arguments = {"num_self_attention_layers": 2, "num_heads": 5, "widening_factor": 2}
    key_bias = ("query_key_value/bias", slice(55, 110))
    check_layer(tmp_path, LatentTransformer, arguments, {"latents": X}, cancelled=[key_bias])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-8)])
@pytest.mark.parametrize("depth", [1, 3])
def test_it_equals_the_oracle(dtype, tolerance, depth):
    layer = randomised(LatentTransformer(depth, 5, name="layer", dtype=dtype), {"latents": X})
    expected = oracle.latent_transformer(oracle.weights_of(layer), X.astype("float64"), depth, 5)
    assert_close(layer(X), expected, tolerance)


def test_each_layer_has_weights_of_its_own_and_nothing_follows_the_last():
    layer = LatentTransformer(3, 5, name="layer")
    layer(X)
    owners = {w.path.split("/")[1] for w in layer.weights}
    assert owners == {"self_attention_1", "self_attention_2", "self_attention_3"}
    assert len({id(w) for w in layer.weights}) == 3 * 12


def test_heads_must_divide_the_channels():
    with pytest.raises(InputError, match="`num_heads` must divide"):
        LatentTransformer(1, 7)(X)
