import keras
from keras import ops

from keras_perceiver import positions
from keras_perceiver._checks import require, require_above, require_positive
from keras_perceiver.attention import at_least_float32
from keras_perceiver.byte_arrays import check_masks
from keras_perceiver.layers._linear import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class FourierPositions(keras.layers.Layer):
    """Attaches Fourier features of their positions to the elements of a grid or of a cloud.

    Attention does not know where a byte comes from; the paper tags each byte with sines and
    cosines of its position, at frequencies up to the Nyquist frequency of the input::

        features = [x_1 .. x_d | sin(π f_k x_a), axis by axis | cos(π f_k x_a), axis by axis]

    with `f = linspace(1, max_resolution / 2, num_bands)` and positions in [-1, 1], both end points
    included. On a grid the features of one axis are the same along all others, so the layer hands on
    one small table per axis and kind instead of the (S_1, .., S_d, d(2K+1)) array. With
    `coordinates`, positions belong to the example and become part of its content.

    The tables are at least float32, whatever the dtype policy. Positions belong to the window that
    enters the model: a padded example has the positions of the padded window.

    Args:
        num_bands: K, frequencies per axis, at least 1.
        max_resolution: μ, the resolution whose Nyquist frequency μ/2 is the highest frequency: a
            number for all axes, one per axis, or None for the length of each axis (grids only).

    Call arguments:
        content: (B, S_1, .., S_d, c) float; on a grid S_1 .. S_d must be static.
        coordinates: optional (B, S_1, .., S_d, p) float in [-1, 1], positions of each element.
        padding_mask: optional (B, S_1, .., S_d) bool, True where a byte is real.

    Returns:
        A segment (see `keras_perceiver.layers`) of C = c + d(2K+1) channels, or c + p(2K+1) with
        `coordinates`.

    Raises:
        InputError: where `max_resolution` has not one entry per axis, or an axis is not static.

    Example:

    >>> segment = FourierPositions(num_bands=64)(keras.ops.zeros((1, 224, 224, 3)))
    >>> [tuple(table.shape) for table in segment["tables"]][2]
    (224, 1, 64)

    Reference: Jaegle et al. 2021, section 3.2 and appendix D.
    """

    def __init__(self, num_bands=64, max_resolution=None, **kwargs):
        super().__init__(autocast=False, **kwargs)
        require_positive(num_bands=num_bands)
        if max_resolution is not None:
            one = not isinstance(max_resolution, (list, tuple))
            for resolution in [max_resolution] if one else max_resolution:
                require_above(0, max_resolution=resolution)
        self.num_bands = num_bands
        self.max_resolution = tuple(max_resolution) if isinstance(max_resolution, list) else max_resolution

    def resolutions(self, sizes):
        """The resolution of each axis; `sizes` are the lengths of the axes, None for a cloud."""
        if self.max_resolution is None:
            require(
                all(s is not None for s in sizes),
                "`max_resolution` must be given where the index axes have no static length",
                axes=tuple(sizes),
            )
            return tuple(sizes)
        if isinstance(self.max_resolution, (int, float)):
            return (self.max_resolution,) * len(sizes)
        require(
            len(self.max_resolution) == len(sizes),
            "`max_resolution` must be a number, or hold one number per axis",
            max_resolution=self.max_resolution,
            number_of_axes=len(sizes),
        )
        return tuple(self.max_resolution)

    def call(self, content, coordinates=None, padding_mask=None):
        dtype = at_least_float32(self.compute_dtype)
        if coordinates is None:
            segment = {"content": content, "tables": self._grid(tuple(content.shape)[1:-1], dtype)}
        else:
            resolutions = self.resolutions((None,) * coordinates.shape[-1])
            features = positions.point_features(ops.cast(coordinates, dtype), self.num_bands, resolutions)
            segment = {"content": ops.concatenate([ops.cast(content, dtype), features], axis=-1), "tables": []}
        if padding_mask is not None:
            segment["padding_mask"] = padding_mask
        check_masks(segment)
        return segment

    def _grid(self, sizes, dtype):
        require(
            len(sizes) >= 1 and None not in sizes,
            "`content` must have the static shape (B, S_1, .., S_d, c)",
            axes=sizes,
            repair="Give `coordinates` where positions are not a grid.",
        )
        tables = positions.grid_tables(sizes, self.num_bands, self.resolutions(sizes))
        return [ops.convert_to_tensor(table.astype(dtype)) for table in tables]

    def get_config(self):
        return {**super().get_config(), "num_bands": self.num_bands, "max_resolution": self.max_resolution}
