import math

import keras
from keras import ops

from keras_perceiver._checks import require_positive
from keras_perceiver._gradients import after, cotangents
from keras_perceiver.layers._linear import PACKAGE, linear

_SLOPE, _CUBIC = 2 * math.sqrt(2 / math.pi), 0.044715  # of 2 u


@ops.custom_gradient
def gelu(x):
    """`x (1 + tanh(u)) / 2` with `u = sqrt(2 / π) (x + 0.044715 x³)`; for gradients `x` alone is kept."""

    def gradient(*arguments, upstream=None):
        (cotangent,) = cotangents(arguments, upstream)
        again = after(x, cotangent)
        square = ops.square(again)
        share = ops.sigmoid(again * (_SLOPE + _SLOPE * _CUBIC * square))  # (1 + tanh(u)) / 2 = sigmoid(2 u)
        return cotangent * share * (1 + again * (1 - share) * (_SLOPE + 3 * _SLOPE * _CUBIC * square))

    return ops.gelu(x, approximate=True), gradient


@keras.saving.register_keras_serializable(package=PACKAGE)
class MLP(keras.layers.Layer):
    """Two linear maps with a GELU between them: `W_2 gelu(W_1 x + b_1) + b_2`.

    The GELU is the tanh form, as in DeepMind's code (the paper does not say; the two differ by at
    most 5e-4).

    Args:
        widening_factor: width of the hidden channels in units of the input channels; 1 in the paper.

    Call arguments:
        inputs: (.., D) float.

    Returns:
        (.., D).

    Reference: Jaegle et al. 2021, appendix C.
    """

    def __init__(self, widening_factor=1, **kwargs):
        super().__init__(**kwargs)
        require_positive(widening_factor=widening_factor)
        self.widening_factor = widening_factor

    def build(self, inputs_shape):
        channels = inputs_shape[-1]
        self.hidden = linear(self.widening_factor * channels, "hidden", self.dtype_policy)
        self.hidden.build(inputs_shape)
        self.contraction = linear(channels, "contraction", self.dtype_policy)
        self.contraction.build((*inputs_shape[:-1], self.widening_factor * channels))

    def call(self, inputs):
        return self.contraction(gelu(self.hidden(inputs)))

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "widening_factor": self.widening_factor}
