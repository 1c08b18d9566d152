"""The Transformers that a Perceiver is compared with: attention among all bytes, or all patches, of an input."""

from keras import layers

from keras_perceiver._checks import require_positive
from keras_perceiver.layers import LatentArray, Patches, SelfAttention
from keras_perceiver.layers._linear import layer_norm, linear
from keras_perceiver.models.baselines import classifier, picture_input


def build_vit(
    input_shape,
    num_classes,
    *,
    patch_size=4,
    width=128,
    num_self_attention_layers=6,
    num_self_attention_heads=4,
    num_bands=None,
    permute_seed=None,
    name="vit",
    dtype=None,
):
    """Builds a Vision Transformer; with patches of 16, width 768, 12 layers and 12 heads it is ViT-B/16.

    Its prior is the patch: pixels within one are near each other. Small by default, for small pictures.

    Args:
        input_shape: (H, W, c) of one picture; `patch_size` must divide H and W.
        num_classes: number of logits.
        patch_size: pixels each way of one patch, or (height, width).
        width: channels of a patch; `num_self_attention_heads` must divide it. MLPs are four times as wide.
        num_self_attention_layers: layers of attention and MLP.
        num_self_attention_heads: heads of each.
        num_bands, permute_seed, name, dtype: see `build_resnet18`.

    Returns:
        A functional `keras.Model`: pictures (B, H, W, c) -> (B, num_classes) logits.

    Raises:
        InputError: where `input_shape` is no picture's, or an argument does not fit it.

    Reference: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", section 3.1 and table 1.
    """
    require_positive(num_classes=num_classes, width=width, num_self_attention_layers=num_self_attention_layers)
    inputs, x = picture_input(input_shape, num_bands, permute_seed, dtype)
    x = Patches(patch_size, name="patches", dtype=dtype)(x)  # (B, H/p, W/p, p²·c)
    x = layers.Reshape((-1, x.shape[-1]), name="patch_rows", dtype=dtype)(x)  # (B, M, p²·c)
    x = linear(width, "patch_embedding", dtype)(x)  # (B, M, width)
    class_token = LatentArray(1, width, name="class_token", dtype=dtype)(x)
    x = layers.Concatenate(axis=1, name="tokens", dtype=dtype)([class_token, x])  # (B, 1 + M, width)
    # One learned vector for each token: what `LatentArray` is, though these are added and not attended with.
    positions = LatentArray(x.shape[1], width, name="token_positions", dtype=dtype)(x)
    x = layers.Add(name="tokens_at_positions", dtype=dtype)([x, positions])
    x = _self_attention(x, num_self_attention_layers, num_self_attention_heads, 4, dtype)
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
    permute_seed=None,
    name="transformer",
    dtype=None,
):
    """Builds a plain Transformer over the byte array: the Perceiver's self-attention among all M bytes.

    No bottleneck and no prior: each layer costs O(M²), which is why the paper runs it on pictures of 64x64 at most.

    Args:
        input_shape: (H, W, c) of one picture.
        num_classes: number of logits.
        patch_size: joins patches of pixels to one byte, see `Patches`; None for single pixels, as in the paper.
        width: channels of a byte within the network; `num_self_attention_heads` must divide it.
        num_self_attention_layers: layers of attention and MLP.
        num_self_attention_heads: heads of each.
        num_bands: K, Fourier bands per axis. None for raw pixels: then it does not know where a byte comes from.
        permute_seed, name, dtype: see `build_resnet18`.

    Returns:
        A functional `keras.Model`: pictures (B, H, W, c) -> (B, num_classes) logits.

    Raises:
        InputError: where `input_shape` is no picture's, or an argument does not fit it.

    Reference: Jaegle et al. 2021, section 4.1, "Transformer (64x64)".
    """
    require_positive(num_classes=num_classes, width=width, num_self_attention_layers=num_self_attention_layers)
    inputs, x = picture_input(input_shape, num_bands, permute_seed, dtype)
    if patch_size is not None:
        x = Patches(patch_size, name="patches", dtype=dtype)(x)
    x = layers.Reshape((-1, x.shape[-1]), name="byte_rows", dtype=dtype)(x)  # (B, M, C)
    x = linear(width, "byte_embedding", dtype)(x)  # (B, M, width)
    x = _self_attention(x, num_self_attention_layers, num_self_attention_heads, 1, dtype)
    x = layer_norm("output_norm", dtype)(x)
    x = layers.GlobalAveragePooling1D(name="byte_mean", dtype=dtype)(x)
    return classifier(inputs, x, num_classes, name, dtype)


def _self_attention(x, num_layers, num_heads, widening_factor, dtype):
    for layer in range(num_layers):
        x = SelfAttention(num_heads, widening_factor, name=f"self_attention_{layer + 1}", dtype=dtype)(x)
    return x
