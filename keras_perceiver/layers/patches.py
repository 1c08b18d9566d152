import keras
from keras import ops

from keras_perceiver._checks import require, require_positive
from keras_perceiver.layers._linear import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class Patches(keras.layers.Layer):
    """Joins neighbouring bytes of a grid to one: space to depth, along any number of axes.

    A byte array of pixels may be as long as a picture has pixels; patches make it shorter, where time matters more
    than freedom from priors, and lose nothing: the numbers are the same, in another shape::

        patches[i, j, (y, x, channel)] = grid[p·i + y, q·j + x, channel]

    The paper takes single pixels of pictures, and patches of 2x8x8 of video. Positions are attached after it.

    Args:
        patch_size: length of a patch along every axis, or one length per axis.

    Call arguments:
        content: (B, S_1, .., S_d, c); `patch_size` must divide the static lengths.

    Returns:
        (B, S_1/p_1, .., S_d/p_d, p_1·..·p_d·c), of the same dtype.

    Raises:
        InputError: where `patch_size` is not positive, does not divide, or has not one entry per axis.

    Example:

    >>> tuple(Patches(4)(keras.ops.zeros((1, 28, 28, 1))).shape)
    (1, 7, 7, 16)

    Reference: Jaegle et al. 2021, section 4.2.
    """

    def __init__(self, patch_size, **kwargs):
        super().__init__(**kwargs)
        one = not isinstance(patch_size, (list, tuple))
        for size in [patch_size] if one else patch_size:
            require_positive(patch_size=size)
        self.patch_size = patch_size if one else tuple(patch_size)

    def call(self, content):
        shape = self.compute_output_shape(tuple(content.shape))
        *lengths, channels = tuple(content.shape)[1:]
        behind = 1  # patches along all axes behind the one at hand
        # One axis after the other, the last one first: LiteRT transposes no more than six axes.
        for length, size in zip(reversed(lengths), reversed(self.sizes(lengths)), strict=True):
            content = ops.reshape(content, (-1, size, behind, channels))  # (B·S_1..·S_i/p_i, p_i, behind, p_i+1·..·c)
            content = ops.transpose(content, (0, 2, 1, 3)) if behind > 1 else content
            channels, behind = channels * size, behind * (length // size)
        return ops.reshape(content, (-1, *shape[1:]))

    def sizes(self, lengths):
        """The length of a patch along each axis, checked against the lengths of the axes."""
        one = isinstance(self.patch_size, int)
        sizes = (self.patch_size,) * len(lengths) if one else self.patch_size
        require(
            len(sizes) == len(lengths),
            "`patch_size` must be a number, or hold one number per axis",
            patch_size=self.patch_size,
            number_of_axes=len(lengths),
        )
        require(
            all(length is not None and length % size == 0 for length, size in zip(lengths, sizes, strict=True)),
            "`patch_size` must divide the static length of every axis",
            patch_size=self.patch_size,
            axes=tuple(lengths),
        )
        return sizes

    def compute_output_shape(self, content_shape):
        batch, *lengths, channels = content_shape
        sizes = self.sizes(lengths)
        for size in sizes:
            channels *= size
        return (batch, *(length // size for length, size in zip(lengths, sizes, strict=True)), channels)

    def get_config(self):
        return {**super().get_config(), "patch_size": self.patch_size}
