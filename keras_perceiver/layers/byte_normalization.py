import keras

from keras_perceiver.attention import at_least_float32
from keras_perceiver.byte_arrays import check_segment_shape, is_segment, normalized_content, segments
from keras_perceiver.layers._linear import LAYER_NORM_EPSILON, PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class ByteNormalization(keras.layers.Layer):
    """Computes once what all cross-attends on one input need of it: its LayerNorm, in factors.

    Mean μ and inverse standard deviation r of a byte depend on the input alone, because scale and offset of a
    cross-attend's LayerNorm are absorbed in its queries and results. A model with several
    cross-attends puts this layer in front of the first; without it, each computes them for itself.

    Call arguments:
        byte_array: a segment or `{modality: segment}`, see `keras_perceiver.layers`.

    Returns:
        The same structure; each segment has `normalized` (B, S_1, .., S_d, c + 2) more, at least float32: the
        normalised content r (content - μ), then -r μ and r, by which tables are normalised.
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def build(self, byte_array_shape):
        for name, shape in segments(byte_array_shape).items():
            check_segment_shape(name, shape)

    def call(self, byte_array):
        dtype = at_least_float32(self.compute_dtype)
        normalized = {
            name: {**segment, "normalized": normalized_content(segment, dtype, LAYER_NORM_EPSILON)}
            for name, segment in segments(byte_array).items()
        }
        return normalized[""] if is_segment(byte_array) else normalized
