"""What enters the networks that a Perceiver is compared with, and how they end."""

import keras
from keras import layers, ops

from keras_perceiver._checks import require, require_at_least
from keras_perceiver.layers import ConcatenatedBytes, FourierPositions
from keras_perceiver.models.classifier import logits_dtype
from keras_perceiver.models.encoder import NUM_COORDINATES, with_policy

CLOUD = "points"  # the one modality that is no grid
KINDS = {
    0: "a cloud of points, {'points': (M, 3 + e)}",
    1: "raw sounds, (S, c)",
    2: "pictures or spectrograms, (H, W, c)",
    3: "films, (T, H, W, c)",
}
# By network, how many index axes its input may have; 0 for a cloud, whose points have no neighbours in the array.
TAKES = {"resnet18": (1, 2, 3), "resnet50": (2,), "vit": (1, 2, 3), "transformer": (0, 1, 2, 3), "pointnet": (0,)}


def network_input(network, input_shape):
    """The inputs of a network, its content and its mask.

    Args:
        network: key of `TAKES`.
        input_shape: (S_1, .., S_d, c), or `{modality: (S_1, .., S_d, c)}` of one modality that comes with a mask.

    Returns:
        `(inputs, content, mask)`: the model's inputs, a tensor, or `{modality: .., <modality>_padding_mask: ..}`;
        (B, S_1, .., S_d, c) with zeros where it is masked; (B, S_1, .., S_d) bool, or None where no mask comes with it.

    Raises:
        InputError: where the network is not made for such an input.
    """
    name, shape = _checked(network, input_shape)
    content = keras.Input(shape, name=name)
    if not isinstance(input_shape, dict):
        return content, content, None
    mask = keras.Input(shape[:-1], name=f"{name}_padding_mask", dtype="bool")
    return {name: content, f"{name}_padding_mask": mask}, zeros_where_padded(content, mask), mask


def _checked(network, input_shape):
    """The name and the shape of the one input."""
    shapes = input_shape if isinstance(input_shape, dict) else {"inputs": input_shape}
    allowed = " or ".join(KINDS[kind] for kind in TAKES[network])
    require(
        len(shapes) == 1,
        f"`input_shape` must be of one modality for {network!r}",
        input_shape=input_shape,
        repair="Those that take several are perceiver and resnet18.",
    )
    ((name, shape),) = shapes.items()
    is_shape = isinstance(shape, (list, tuple)) and all(isinstance(size, int) and size >= 1 for size in shape)
    kind = (0 if name == CLOUD else len(shape) - 1) if is_shape else None
    others = [other for other, kinds in TAKES.items() if kind in kinds]
    require(
        kind in TAKES[network] and (kind or (len(shape) == 2 and shape[-1] >= NUM_COORDINATES)),
        f"`input_shape` must be of {allowed} for {network!r}",
        input_shape=input_shape,
        repair=f"There are other networks for it: {', '.join(['perceiver', *others])}." if others else "",
    )
    return name, tuple(shape)


def with_positions(input_shape, content, mask, *, num_bands, permute_seed, dtype, max_resolution=None, name="inputs"):
    """Content with Fourier features of its positions beside it, and its mask; both perhaps in another order.

    Args:
        input_shape: see `network_input`; of a cloud the first three channels are coordinates, and the positions.
        content: (B, S_1, .., S_d, c).
        mask: (B, S_1, .., S_d) bool, or None.
        num_bands: K, Fourier bands per axis; 0 for content alone.
        permute_seed: of one permutation of all bytes, features included; None keeps their order.
        dtype: dtype policy of the layers.
        max_resolution: μ, see `FourierPositions`; None for the lengths of the axes, and for 2K of a cloud: its
            frequencies are then 1, 2, .., K.
        name: what the names of the layers begin with.
    """
    segment = {"content": content, "tables": []} | ({} if mask is None else {"padding_mask": mask})
    require_at_least(0, num_bands=num_bands)
    if num_bands and isinstance(input_shape, dict) and CLOUD in input_shape:
        layer = FourierPositions(num_bands, max_resolution or 2 * num_bands, name=f"{name}_positions", dtype=dtype)
        coordinates, features = content[..., :NUM_COORDINATES], content[..., NUM_COORDINATES:]
        segment = layer(features, coordinates=coordinates, padding_mask=mask)
    elif num_bands:
        layer = FourierPositions(num_bands, max_resolution, name=f"{name}_positions", dtype=dtype)
        segment = layer(content, padding_mask=mask)
    if not num_bands and permute_seed is None:
        return content, mask
    segment = ConcatenatedBytes(permute_seed, name=f"{name}_concatenated", dtype=dtype)(segment)
    return segment["content"], segment.get("padding_mask")


def zeros_where_padded(content, mask):
    """(B, .., c) with zeros where the mask (B, ..) is False; what is there may be anything, NaN included."""
    return content if mask is None else ops.where(mask[..., None], content, ops.zeros_like(content))


def classifier(inputs, features, num_classes, name, dtype):
    """The model that ends in one linear map from (B, features) to the logits."""
    logits = layers.Dense(num_classes, name="logits", dtype=logits_dtype(dtype))(features)
    return with_policy(keras.Model(inputs, logits, name=name), dtype)
