import keras
from keras import ops

from keras_perceiver._checks import InputTypeError, require, require_above, require_positive
from keras_perceiver.attention import at_least_float32
from keras_perceiver.byte_arrays import check_segment_shape, is_segment, segment_channels, segments, with_tables
from keras_perceiver.layers._linear import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class ModalityEncoding(keras.layers.Layer):
    """Brings the bytes of several modalities to one width, each with a learned vector of its own.

    The vector tells the modalities apart and pads the narrower ones, so that all can be
    concatenated along M; the paper found this better than a linear projection. Each modality has
    `C - C_modality` learned channels, at least `min_channels` for the widest.

    Args:
        min_channels: learned channels of the widest modality, at least 1.
        initial_std: standard deviation (before truncation at two of them) of the initial values. The
            paper gives none; 0.02 is that of the latent array.

    Call arguments:
        byte_array: `{modality: segment}`, see `keras_perceiver.layers`.

    Returns:
        The same structure, one table of a single row more in each segment, all of
        C = max(C_modality) + min_channels channels.

    Reference: Jaegle et al. 2021, section 4.2 and appendix E.
    """

    def __init__(self, min_channels=4, initial_std=0.02, **kwargs):
        super().__init__(autocast=False, **kwargs)
        require_positive(min_channels=min_channels)
        require_above(0, initial_std=initial_std)
        self.min_channels = min_channels
        self.initial_std = initial_std

    def build(self, byte_array_shape):
        require(
            isinstance(byte_array_shape, dict) and not is_segment(byte_array_shape),
            "`byte_array` must be a dictionary of segments by modality",
            error=InputTypeError,
            byte_array_shape=byte_array_shape,
        )
        shapes = segments(byte_array_shape)
        for name, shape in shapes.items():
            check_segment_shape(name, shape)
        width = max(segment_channels(shape) for shape in shapes.values()) + self.min_channels
        self.vectors = {
            name: self.add_weight(
                shape=(width - segment_channels(shape),),
                initializer=keras.initializers.TruncatedNormal(stddev=self.initial_std),
                name=f"{name}_vector",
            )
            for name, shape in shapes.items()
        }

    def call(self, byte_array):
        dtype = at_least_float32(self.compute_dtype)
        encoded = {}
        for name, segment in byte_array.items():
            num_axes = len(segment["content"].shape) - 2
            vector = ops.reshape(ops.cast(self.vectors[name], dtype), (1,) * num_axes + (-1,))  # (1, .., 1, E)
            encoded[name] = with_tables(segment, [vector])
        return encoded

    def get_config(self):
        return {**super().get_config(), "min_channels": self.min_channels, "initial_std": self.initial_std}
