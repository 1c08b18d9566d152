import numpy as np
import pytest

from keras_perceiver.layers._linear import layer_norm, linear


@pytest.mark.parametrize("fan_in", [31, 211])
def test_linear_maps_start_as_the_fan_in_says(fan_in):
    layer = linear(1009, "linear", "float32")
    layer.build((2, fan_in))
    kernel = np.asarray(layer.kernel)
    std = 1 / np.sqrt(fan_in)  # after truncation
    assert abs(kernel.mean()) < 0.02 * std
    np.testing.assert_allclose(kernel.std(), std, rtol=0.02)
    largest = np.abs(kernel).max() / (std / 0.87962566)  # 0.8796: what truncation at 2 leaves of a deviation of 1
    assert 1.98 < largest <= 2.0001
    assert (np.asarray(layer.bias) == 0).all()


def test_layer_norm_has_the_papers_epsilon():
    layer = layer_norm("norm", "float64")
    normed = layer(np.array([[0.001, -0.001]]))  # variance 1e-6
    np.testing.assert_allclose(normed, [[0.001 / np.sqrt(1.1e-5), -0.001 / np.sqrt(1.1e-5)]], rtol=1e-9)
