import keras
from keras import ops

from keras_perceiver._checks import require, require_above, require_positive
from keras_perceiver.attention import at_least_float32
from keras_perceiver.byte_arrays import check_masks
from keras_perceiver.layers._linear import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class LearnedPositions(keras.layers.Layer):
    """Attaches a learned vector to each position of a grid.

    The paper's alternative to Fourier features: it knows nothing of the structure of the input, not
    even which bytes are neighbours, and reaches 70.9 % on ImageNet where Fourier features reach 78.0 %.
    The table is shared by all examples and enters at least in float32.

    Args:
        num_channels: E, channels of the vector of one position.
        initial_std: standard deviation (before truncation at two of them) of the initial values.

    Call arguments:
        content: (B, S_1, .., S_d, c) float, S_1 .. S_d static.
        padding_mask: optional (B, S_1, .., S_d) bool, True where a byte is real.

    Returns:
        A segment (see `keras_perceiver.layers`) of C = c + E channels.

    Raises:
        InputError: where an axis of the content is not static.

    Example:

    >>> segment = LearnedPositions(num_channels=128)(keras.ops.zeros((1, 224, 224, 3)))
    >>> tuple(segment["tables"][0].shape)
    (224, 224, 128)

    Reference: Jaegle et al. 2021, section 4.1; the width of 128 and the scale of 1.0, appendix C.
    """

    def __init__(self, num_channels=128, initial_std=1.0, **kwargs):
        super().__init__(autocast=False, **kwargs)
        require_positive(num_channels=num_channels)
        require_above(0, initial_std=initial_std)
        self.num_channels = num_channels
        self.initial_std = initial_std

    def build(self, content_shape):
        sizes = tuple(content_shape)[1:-1]
        require(
            len(sizes) >= 1 and None not in sizes,
            "`content` must have the static shape (B, S_1, .., S_d, c): each position has a vector of its own",
            content_shape=tuple(content_shape),
        )
        self.position_table = self.add_weight(
            shape=(*sizes, self.num_channels),
            initializer=keras.initializers.TruncatedNormal(stddev=self.initial_std),
            name="position_table",
        )

    def call(self, content, padding_mask=None):
        table = ops.cast(self.position_table, at_least_float32(self.compute_dtype))
        segment = {"content": content, "tables": [table]}
        if padding_mask is not None:
            segment["padding_mask"] = padding_mask
        check_masks(segment)
        return segment

    def get_config(self):
        return {**super().get_config(), "num_channels": self.num_channels, "initial_std": self.initial_std}
