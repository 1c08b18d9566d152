"""The Perceiver without a head: inputs -> latents, the paper's figure 1 as a functional graph."""

import math

import keras

from keras_perceiver._checks import require, require_at_least, require_one_of, require_positive
from keras_perceiver.layers import (
    ByteNormalization,
    ConcatenatedBytes,
    CrossAttention,
    FourierPositions,
    LatentArray,
    LatentTransformer,
    LearnedPositions,
    ModalityDropout,
    ModalityEncoding,
    Patches,
)

POSITIONS = ("fourier", "learned", "coordinates", "none")
NUM_COORDINATES = 3  # x, y, z: the first channels of a cloud of points
CONVOLUTIONS = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D}  # by the number of axes


def build_encoder(
    input_shape,
    *,
    padding_mask=False,
    modality_dropout=None,
    patch_size=None,
    flatten_axes=False,
    stem=None,
    stem_channels=64,
    num_stem_layers=1,
    positions="fourier",
    num_bands=64,
    max_resolution=None,
    position_channels=128,
    permute_seed=None,
    num_latents=512,
    latent_dim=1024,
    latent_initial_std=0.02,
    num_blocks=8,
    num_cross_attends=8,
    cross_attend_placement="interleaved",
    num_cross_attention_heads=1,
    cross_attention_head_dim=None,
    cross_attention_implementation="auto",
    cross_attention_memory_budget=None,
    num_self_attention_layers=6,
    num_self_attention_heads=8,
    share_weights=True,
    widening_factor=1,
    dtype=None,
    name="perceiver_encoder",
):
    """Builds the Perceiver up to its latents; the defaults are the paper's ImageNet model.

    `num_blocks` times a latent Transformer, with `num_cross_attends` cross-attends between them. The first
    cross-attend has its own weights and the others share one set; the latent Transformer is one set for
    all blocks.

    Args:
        input_shape: (S_1, .., S_d, c) of one example, or `{modality: (S_1, .., S_d, c)}`.
        padding_mask: whether each modality comes with a mask. The model then takes a dictionary
            with, for each modality, `<modality>` and `<modality>_padding_mask` of shape
            (B, S_1, .., S_d) bool, True where a byte is real; a lone input is called `inputs`.
        modality_dropout: `{modality: probability}` that all of it is zeroed for an example in training, see
            `ModalityDropout`; None for never.
        patch_size: of `Patches` that shorten the byte array before positions are attached, a number or one
            per axis; for several modalities also `{modality: patch_size}`. None for single elements, as in the paper.
            With a mask a patch is real where any of its elements is, and those that are not are zeros in it.
        flatten_axes: joins all index axes to one before positions are attached, as the paper does with spectrograms.
        stem: None, or "conv" for trained convolutions in front: 3 wide along each axis, in steps of 2, with a GELU; for
            several modalities also `{modality: "conv"}`, beside patches of others. With a mask, what is not real is
            zeros in front of each, and what comes out is real where anything is.
        stem_channels: of the last of these convolutions; each one before it has half as many.
        num_stem_layers: how many convolutions; each halves the length of every axis.
        positions: "fourier" or "learned", those of a grid; "coordinates" for clouds of points, whose first three
            channels x, y, z in [-1, 1] are the positions of their Fourier features, or "none".
        num_bands: K, Fourier bands per axis.
        max_resolution: μ, see `FourierPositions`, which clouds of points need; for several modalities also
            `{modality: μ}`.
        position_channels: E of learned positions.
        permute_seed: of one permutation of all bytes of a modality, after their positions are attached, the paper's
            permuted ImageNet: the model stays the same function. None keeps their order.
        num_latents: N.
        latent_dim: D; `num_self_attention_heads` must divide it.
        latent_initial_std: of the latent array, before truncation.
        num_blocks: P, how often the latent Transformer is applied.
        num_cross_attends: X, at most P. Interleaved, X must divide P, and cross-attend i stands
            before block 1 + i·P/X.
        cross_attend_placement: "interleaved", or "start" for all of them before the first block.
        num_cross_attention_heads: 1 in the paper.
        cross_attention_head_dim: channels per head; None for C / heads.
        cross_attention_implementation: "auto", "dense", "absorbed" or "factored", see `CrossAttention`.
        cross_attention_memory_budget: bytes for one block of bytes, see `CrossAttention`.
        num_self_attention_layers: L of the latent Transformer; 0 for none.
        num_self_attention_heads: 8 in the paper.
        share_weights: False gives each cross-attend and each latent Transformer weights of its own.
        widening_factor: of all MLPs; 1 in the paper.
        dtype: dtype policy of all layers; None for Keras' global policy.
        name: of the model.

    Returns:
        A functional `keras.Model`: inputs -> (B, N, D).

    Raises:
        InputError: where an argument is out of its range or two contradict each other.

    Reference: Jaegle et al. 2021, section 3 and appendix C.
    """
    require_positive(num_blocks=num_blocks, num_cross_attends=num_cross_attends, num_stem_layers=num_stem_layers)
    require_at_least(0, num_self_attention_layers=num_self_attention_layers)
    require_one_of(POSITIONS, positions=positions)
    require_one_of(("interleaved", "start"), cross_attend_placement=cross_attend_placement)
    cross_attends_before = cross_attends_per_block(num_blocks, num_cross_attends, cross_attend_placement)

    _check_input_shape(input_shape)
    require(
        modality_dropout is None or isinstance(modality_dropout, dict),
        "`modality_dropout` must be {modality: probability}",
        modality_dropout=modality_dropout,
    )
    modalities = list(input_shape) if isinstance(input_shape, dict) else ["inputs"]
    for by_modality in (max_resolution, patch_size, stem, modality_dropout):
        for modality in by_modality if isinstance(by_modality, dict) else ():
            require_one_of(modalities, modality=modality)
    for modality in modalities:
        require_one_of((None, "conv"), stem=of_modality(stem, modality))
        require(
            of_modality(patch_size, modality) is None or of_modality(stem, modality) is None,
            "`patch_size` and `stem` must not both be given for a modality, as each shortens its bytes",
            modality=modality,
            patch_size=patch_size,
            stem=stem,
        )
    if positions == "coordinates":
        _check_coordinates(input_shape, patch_size, stem, max_resolution)

    inputs, content, masks = _inputs(input_shape, padding_mask)
    segments = {}
    for modality, tensor in content.items():
        if modality_dropout and modality in modality_dropout:
            tensor = ModalityDropout(modality_dropout[modality], name=f"{modality}_dropout", dtype=dtype)(tensor)
        resolution, patch, convolutions = (of_modality(by, modality) for by in (max_resolution, patch_size, stem))
        mask = masks.get(modality)
        tensor, mask = _front(modality, tensor, mask, patch, convolutions, stem_channels, num_stem_layers, dtype)
        if flatten_axes:
            tensor, mask = _flattened(modality, tensor, mask, dtype)
        segments[modality] = _segment(
            modality, tensor, mask, positions, num_bands, resolution, position_channels, dtype
        )
        if permute_seed is not None:
            permuted = ConcatenatedBytes(permute_seed, name=f"{modality}_permuted", dtype=dtype)
            segments[modality] = permuted(segments[modality])
    if len(segments) > 1:
        byte_array = ModalityEncoding(name="modality_encoding", dtype=dtype)(segments)
    else:
        byte_array = next(iter(segments.values()))
    byte_array = ByteNormalization(name="byte_normalization", dtype=dtype)(byte_array)

    latents = LatentArray(num_latents, latent_dim, latent_initial_std, name="latent_array", dtype=dtype)(byte_array)
    cross_attentions, latent_transformers = [], []
    for block in range(num_blocks):
        for _ in range(cross_attends_before[block]):
            if len(cross_attentions) < 2 or not share_weights:
                layer = CrossAttention(
                    num_cross_attention_heads,
                    cross_attention_head_dim,
                    widening_factor,
                    cross_attention_implementation,
                    cross_attention_memory_budget,
                    name=f"cross_attention_{len(cross_attentions) + 1}",
                    dtype=dtype,
                )
                cross_attentions.append(layer)
            latents = cross_attentions[-1](latents, byte_array)
        if num_self_attention_layers:
            if not latent_transformers or not share_weights:
                layer = LatentTransformer(
                    num_self_attention_layers,
                    num_self_attention_heads,
                    widening_factor,
                    name=f"latent_transformer_{len(latent_transformers) + 1}",
                    dtype=dtype,
                )
                latent_transformers.append(layer)
            latents = latent_transformers[-1](latents)
    return with_policy(keras.Model(inputs, latents, name=name), dtype)


def with_policy(model, dtype):
    """The model, with its own policy set: `compile` reads it to scale the loss under mixed_float16."""
    if dtype is not None:
        model.dtype_policy = dtype
    return model


def cross_attends_per_block(num_blocks, num_cross_attends, placement):
    """How many cross-attends stand before each of the P blocks: a list of P integers."""
    require(
        num_cross_attends <= num_blocks,
        "`num_cross_attends` must be at most `num_blocks`",
        num_cross_attends=num_cross_attends,
        num_blocks=num_blocks,
    )
    if placement == "start":
        return [num_cross_attends] + [0] * (num_blocks - 1)
    require(
        num_blocks % num_cross_attends == 0,
        "`num_cross_attends` must divide `num_blocks` where cross-attends are interleaved",
        num_cross_attends=num_cross_attends,
        num_blocks=num_blocks,
        repair='Choose a divisor, or `cross_attend_placement="start"`.',
    )
    stride = num_blocks // num_cross_attends
    return [int(block % stride == 0) for block in range(num_blocks)]


def _check_input_shape(input_shape):
    """Requires (S_1, .., S_d, c), or a dictionary of such shapes by modality."""
    shapes = input_shape if isinstance(input_shape, dict) else {"inputs": input_shape}
    require(bool(shapes), "`input_shape` must name at least one modality", input_shape=input_shape)
    for modality, shape in shapes.items():
        legal = (
            isinstance(modality, str)
            and isinstance(shape, (list, tuple))
            and len(shape) >= 2
            and all(isinstance(size, int) and size >= 1 for size in shape if size is not None)
            and shape[-1] is not None
        )
        require(
            legal,
            "`input_shape` must be (S_1, .., S_d, c), the lengths of the index axes and the channels, or "
            "{modality: (S_1, .., S_d, c)}",
            input_shape=input_shape,
        )


def of_modality(setting, modality):
    """What a setting that may be `{modality: setting}` is for one of them."""
    return setting.get(modality) if isinstance(setting, dict) else setting


def _inputs(input_shape, padding_mask):
    """The model's inputs, and its contents and masks by modality."""
    shapes = input_shape if isinstance(input_shape, dict) else {"inputs": tuple(input_shape)}
    content = {m: keras.Input(shape, name=m) for m, shape in shapes.items()}
    masks = {}
    if padding_mask:
        masks = {m: keras.Input(tuple(s)[:-1], name=f"{m}_padding_mask", dtype="bool") for m, s in shapes.items()}
    if isinstance(input_shape, dict) or padding_mask:
        inputs = {**content, **{f"{m}_padding_mask": mask for m, mask in masks.items()}}
    else:
        inputs = content["inputs"]
    return inputs, content, masks


def _check_coordinates(input_shape, patch_size, stem, max_resolution):
    """Requires points with coordinates of their own, which nothing in front mixes, and their resolution."""
    for shape in input_shape.values() if isinstance(input_shape, dict) else [input_shape]:
        require(
            shape[-1] >= NUM_COORDINATES,
            f'With `positions="coordinates"` the first {NUM_COORDINATES} channels must be coordinates',
            input_shape=input_shape,
        )
    require(
        patch_size is None and stem is None,
        'With `positions="coordinates"` nothing may stand in front, as points have no neighbours in the array',
        patch_size=patch_size,
        stem=stem,
    )
    require(
        max_resolution is not None,
        '`max_resolution` must be given with `positions="coordinates"`',
        max_resolution=max_resolution,
    )


def _front(modality, content, mask, patch_size, stem, stem_channels, num_stem_layers, dtype):
    """The content as single elements, as patches, or behind small convolutions; and its mask."""
    if patch_size is not None:
        return in_patches(modality, content, mask, patch_size, dtype)
    if stem is None:
        return content, mask
    axes = len(content.shape) - 2
    require(axes in CONVOLUTIONS, "`stem` must stand before 1, 2 or 3 index axes", stem=stem, number_of_axes=axes)
    for layer in range(num_stem_layers):
        channels = max(1, stem_channels // 2 ** (num_stem_layers - 1 - layer))
        name = f"{modality}_stem_{layer + 1}"
        convolution = CONVOLUTIONS[axes](
            channels, 3, strides=2, padding="same", activation="gelu", name=name, dtype=dtype
        )
        content = convolution(_zeros_where_padded(content, mask))  # (B, ceil(S_1 / 2), .., channels)
        if mask is not None:
            elements = keras.ops.cast(keras.ops.expand_dims(mask, -1), "float32")
            mask = keras.ops.max_pool(elements, 2, padding="same")[..., 0] > 0
    return content, mask


def in_patches(name, content, mask, patch_size, dtype):
    """The content as patches, zeros where it is padded, and the mask of the patches with anything real in them."""
    patches = Patches(patch_size, name=f"{name}_patches", dtype=dtype)(_zeros_where_padded(content, mask))
    if mask is not None:
        of_mask = Patches(patch_size, name=f"{name}_mask_patches", dtype="bool")
        mask = keras.ops.any(of_mask(keras.ops.expand_dims(mask, -1)), axis=-1)
    return patches, mask  # (B, S_1/p_1, .., p_1·..·c), (B, S_1/p_1, ..)


def _zeros_where_padded(content, mask):
    """(B, S_1, .., S_d, c), whatever stood where it is not real."""
    if mask is None:
        return content
    return keras.ops.where(keras.ops.expand_dims(mask, -1), content, keras.ops.zeros_like(content))


def _flattened(modality, content, mask, dtype):
    """The content with one index axis, and its mask: (B, M, c) and (B, M)."""
    sizes = tuple(content.shape)[1:-1]
    require(None not in sizes, "`flatten_axes` must be False where an axis has no static length", axes=sizes)
    flat = keras.layers.Reshape((math.prod(sizes), content.shape[-1]), name=f"{modality}_flattened", dtype=dtype)
    return flat(content), None if mask is None else keras.ops.reshape(mask, (-1, math.prod(sizes)))


def _segment(modality, content, mask, positions, num_bands, max_resolution, position_channels, dtype):
    """The segment of one modality: its content with positions attached."""
    name = f"{modality}_positions"
    if positions == "fourier":
        return FourierPositions(num_bands, max_resolution, name=name, dtype=dtype)(content, padding_mask=mask)
    if positions == "coordinates":
        layer = FourierPositions(num_bands, max_resolution, name=name, dtype=dtype)
        coordinates, features = content[..., :NUM_COORDINATES], content[..., NUM_COORDINATES:]
        return layer(features, coordinates=coordinates, padding_mask=mask)
    if positions == "learned":
        return LearnedPositions(position_channels, name=name, dtype=dtype)(content, padding_mask=mask)
    return {"content": content, "tables": []} | ({} if mask is None else {"padding_mask": mask})
