"""The Transformers that a Perceiver is compared with: attention among all bytes, or all patches, of an input."""

import math

from keras import layers, ops

from keras_perceiver._checks import require, require_positive
from keras_perceiver.layers import LatentArray, SelfAttention
from keras_perceiver.layers._linear import layer_norm, linear
from keras_perceiver.models.encoder import in_patches
from keras_perceiver.models.network_inputs import (
    classifier,
    network_input,
    with_positions,
    zeros_where_padded,
)

MOST_BYTES = 2**14  # of a Transformer: one head's scores of one example are then 1 GiB in float32


def build_vit(
    input_shape,
    num_classes,
    *,
    patch_size=4,
    width=128,
    num_self_attention_layers=6,
    num_self_attention_heads=4,
    num_bands=0,
    permute_seed=None,
    name="vit",
    dtype=None,
):
    """Builds a Vision Transformer; with patches of 16, width 768, 12 layers and 12 heads it is ViT-B/16.

    Its prior is the patch: elements within one are near each other. Small by default, for small pictures. Patches of
    spectrograms are taken like those of pictures, films are cut into blocks of space and time.

    Args:
        input_shape: see `build_resnet18`; `patch_size` must divide every axis. Patches with nothing real in them are
            not attended to.
        num_classes: number of logits.
        patch_size: elements each way of one patch, or one number per axis.
        width: channels of a patch; `num_self_attention_heads` must divide it. MLPs are four times as wide.
        num_self_attention_layers: layers of attention and MLP.
        num_self_attention_heads: heads of each.
        num_bands, permute_seed, name, dtype: see `build_resnet18`.

    Returns:
        A functional `keras.Model`: (B, S_1, .., S_d, c), or a dictionary with a mask -> (B, num_classes) logits.

    Raises:
        InputError: where the network is not made for `input_shape`, or an argument does not fit it.

    Reference: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", section 3.1 and table 1; for films Arnab et al.
    2021, "ViViT: A Video Vision Transformer", section 3.2, "tubelet embedding", and model 1.
    """
    require_positive(num_classes=num_classes, width=width, num_self_attention_layers=num_self_attention_layers)
    inputs, content, mask = network_input("vit", input_shape)
    x, mask = with_positions(input_shape, content, mask, num_bands=num_bands, permute_seed=permute_seed, dtype=dtype)
    x, mask = in_patches("inputs", x, mask, patch_size, dtype)  # (B, S_1/p, .., p^d·c), (B, S_1/p, ..)
    x, mask = _rows(x, mask, dtype)  # (B, M, p^d·c), (B, M)
    if mask is not None:
        mask = ops.concatenate([ops.ones_like(mask[:, :1]), mask], axis=1)  # with the class token
    x = linear(width, "patch_embedding", dtype)(x)  # (B, M, width)
    class_token = LatentArray(1, width, name="class_token", dtype=dtype)(x)
    x = layers.Concatenate(axis=1, name="tokens", dtype=dtype)([class_token, x])  # (B, 1 + M, width)
    # One learned vector for each token: what `LatentArray` is, though these are added and not attended with.
    positions = LatentArray(x.shape[1], width, name="token_positions", dtype=dtype)(x)
    x = layers.Add(name="tokens_at_positions", dtype=dtype)([x, positions])
    x = _self_attention(x, mask, num_self_attention_layers, num_self_attention_heads, 4, dtype)
    x = layer_norm("output_norm", dtype)(x)
    return classifier(inputs, x[:, 0], num_classes, name, dtype)


def build_transformer(
    input_shape,
    num_classes,
    *,
    patch_size=None,
    width=128,
    num_self_attention_layers=4,
    num_self_attention_heads=4,
    num_bands=16,
    max_resolution=None,
    permute_seed=None,
    name="transformer",
    dtype=None,
):
    """Builds a plain Transformer over the byte array: the Perceiver's self-attention among all M bytes.

    No bottleneck and no prior: each layer costs O(M²), which is why the paper runs it on pictures of 64x64 at most.

    Args:
        input_shape: (S_1, .., S_d, c) of one example, or `{modality: (S_1, .., S_d, c)}` of one modality that comes
            with a mask, such as `{"points": (M, 3 + e)}` of clouds: what is padded takes part in nothing.
        num_classes: number of logits.
        patch_size: joins patches to one byte, see `Patches`; None for single elements, as in the paper.
        width: channels of a byte within the network; `num_self_attention_heads` must divide it.
        num_self_attention_layers: layers of attention and MLP.
        num_self_attention_heads: heads of each.
        num_bands: K, Fourier bands per axis. 0 for none: then it does not know where a byte of a grid comes from.
        max_resolution: μ of these, see `FourierPositions`; None for the lengths of the axes, and for 2K of a cloud:
            its frequencies are then 1, 2, .., K.
        permute_seed, name, dtype: see `build_resnet18`.

    Returns:
        A functional `keras.Model`: (B, S_1, .., S_d, c), or a dictionary with a mask -> (B, num_classes) logits.

    Raises:
        InputError: where the network is not made for `input_shape`, an argument does not fit it, or there are more than
            `MOST_BYTES` bytes.

    Reference: Jaegle et al. 2021, section 4.1, "Transformer (64x64)".
    """
    require_positive(num_classes=num_classes, width=width, num_self_attention_layers=num_self_attention_layers)
    inputs, content, mask = network_input("transformer", input_shape)
    x, mask = with_positions(
        input_shape,
        content,
        mask,
        num_bands=num_bands,
        permute_seed=permute_seed,
        dtype=dtype,
        max_resolution=max_resolution,
    )
    if patch_size is not None:
        x, mask = in_patches("inputs", x, mask, patch_size, dtype)
    x, mask = _rows(x, mask, dtype)  # (B, M, C), (B, M)
    require(
        x.shape[1] <= MOST_BYTES,
        f"`patch_size` must leave at most {MOST_BYTES:,} bytes, all of which attend to all",
        patch_size=patch_size,
        bytes=x.shape[1],
    )
    x = linear(width, "byte_embedding", dtype)(x)  # (B, M, width)
    x = _self_attention(x, mask, num_self_attention_layers, num_self_attention_heads, 1, dtype)
    x = layer_norm("output_norm", dtype)(x)
    return classifier(inputs, _mean(x, mask, dtype), num_classes, name, dtype)


def _rows(x, mask, dtype):
    """(B, S_1, .., S_d, C) -> (B, M, C), and the mask alike."""
    rows = layers.Reshape((-1, x.shape[-1]), name="byte_rows", dtype=dtype)(x)
    return rows, None if mask is None else ops.reshape(mask, (-1, math.prod(x.shape[1:-1])))


def _mean(x, mask, dtype):
    """The mean over all bytes that are real, (B, C); zeros where none is."""
    if mask is None:
        return layers.GlobalAveragePooling1D(name="byte_mean", dtype=dtype)(x)
    count = ops.maximum(ops.sum(ops.cast(mask, x.dtype), axis=1, keepdims=True), 1)
    return ops.sum(zeros_where_padded(x, mask), axis=1) / count


def _self_attention(x, mask, num_layers, num_heads, widening_factor, dtype):
    masks = {} if mask is None else {"padding_mask": mask}
    for layer in range(num_layers):
        x = SelfAttention(num_heads, widening_factor, name=f"self_attention_{layer + 1}", dtype=dtype)(x, **masks)
    return x
