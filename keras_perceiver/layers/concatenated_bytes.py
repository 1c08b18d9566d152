import math

import keras
import numpy as np
from keras import ops

from keras_perceiver._checks import InputTypeError, require
from keras_perceiver.attention import at_least_float32
from keras_perceiver.byte_arrays import check_masks, check_segment_shape, concatenated, is_segment
from keras_perceiver.layers._linear import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class ConcatenatedBytes(keras.layers.Layer):
    """Writes content and positions of each byte side by side, and may put the bytes in another order.

    Cross-attention never needs the byte array in full; a convolution does, and so does a fixed permutation of
    all bytes, the paper's test of what a network assumes of its input: a Perceiver is the same function
    of permuted bytes, as each carries its position with it, and a convolution is not.

    Args:
        permute_seed: of one permutation of all M bytes, the same for every example; None keeps their order.

    Call arguments:
        segment: see `keras_perceiver.layers`; with a permutation S_1 .. S_d must be static.

    Returns:
        A segment of the same axes without tables: its content is (B, S_1, .., S_d, C), at least float32.

    Raises:
        InputError: where `permute_seed` is negative, or an axis is not static.
        InputTypeError: where `segment` is no segment.

    Example:

    >>> segment = FourierPositions(num_bands=64)(keras.ops.zeros((1, 224, 224, 3)))
    >>> tuple(ConcatenatedBytes()(segment)["content"].shape)
    (1, 224, 224, 261)

    Reference: Jaegle et al. 2021, section 4.1, "Permuted ImageNet".
    """

    def __init__(self, permute_seed=None, **kwargs):
        super().__init__(autocast=False, **kwargs)
        legal = permute_seed is None or (type(permute_seed) is int and permute_seed >= 0)
        require(legal, "`permute_seed` must be None or an integer of at least 0", permute_seed=permute_seed)
        self.permute_seed = permute_seed

    def build(self, segment_shape):
        require(
            is_segment(segment_shape), "`segment` must be a segment", error=InputTypeError, segment_shape=segment_shape
        )
        check_segment_shape("", segment_shape)
        sizes = tuple(segment_shape["content"])[1:-1]
        require(
            self.permute_seed is None or None not in sizes,
            "The axes of `content` must be static where bytes are permuted",
            content_shape=tuple(segment_shape["content"]),
        )

    def call(self, segment):
        check_masks(segment)
        content = concatenated(segment, at_least_float32(self.compute_dtype))  # (B, S_1, .., S_d, C)
        result = {"content": self._permuted(content), "tables": []}
        if "padding_mask" in segment:
            result["padding_mask"] = self._permuted(segment["padding_mask"][..., None])[..., 0]
        return result

    def order(self, length):
        """(M,) which byte stands at each place after the permutation of M bytes."""
        return np.random.default_rng(self.permute_seed).permutation(length)

    def _permuted(self, x):
        if self.permute_seed is None:
            return x
        _, *sizes, channels = x.shape
        order = self.order(math.prod(sizes))
        flat = ops.reshape(x, (-1, len(order), channels))  # (B, M, C)
        return ops.reshape(ops.take(flat, order, axis=1), (-1, *sizes, channels))

    def compute_output_spec(self, segment):
        sizes = tuple(segment["content"].shape)[:-1]
        channels = segment["content"].shape[-1] + sum(table.shape[-1] for table in segment["tables"])
        dtype = at_least_float32(self.compute_dtype)
        result = {"content": keras.KerasTensor((*sizes, channels), dtype), "tables": []}
        if "padding_mask" in segment:
            result["padding_mask"] = keras.KerasTensor(sizes, "bool")
        return result

    def get_config(self):
        return {**super().get_config(), "permute_seed": self.permute_seed}
