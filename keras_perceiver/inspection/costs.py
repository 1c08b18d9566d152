"""FLOPs and memory of one forward pass, layer by layer.

A multiply and an add count as two FLOPs; only matrix products are counted, as in the paper's table.
Memory is what a layer holds at once beside its input, its output and its weights.
"""

import math
from dataclasses import dataclass

import keras

from keras_perceiver import byte_arrays
from keras_perceiver.layers import MLP, CrossAttention, LatentTransformer, SelfAttention

CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@dataclass(frozen=True)
class Cost:
    """FLOPs of the textbook form, FLOPs of what is computed, and bytes of temporaries; of one example."""

    textbook_flops: int = 0
    flops: int = 0
    temporary_bytes: int = 0


def layer_cost(layer, shapes):
    """The cost of one call of `layer` for one example; None where it is not known.

    Args:
        layer: a Keras layer.
        shapes: the call's positional arguments, tensors replaced by their shapes.
    """
    if isinstance(layer, CrossAttention):
        return cross_attention_cost(layer, *shapes)
    if isinstance(layer, LatentTransformer):
        return latent_transformer_cost(layer, *shapes)
    if isinstance(layer, SelfAttention):
        return self_attention_cost(layer, *shapes)
    if isinstance(layer, MLP):
        return mlp_cost(layer, *shapes)
    if isinstance(layer, keras.layers.Dense):
        flops = 2 * math.prod(shapes[0][1:]) * layer.units
        return Cost(flops, flops)
    if isinstance(layer, CONVOLUTIONS):
        flops = 2 * math.prod(layer.compute_output_shape(shapes[0])[1:]) * math.prod(layer.kernel.shape[:-1])
        return Cost(flops, flops)
    return None if layer.weights and not _only_adds(layer) else Cost()


def cross_attention_cost(layer, latents_shape, byte_array_shape):
    """Cost of a cross-attend of N latents of D channels to M bytes of C channels."""
    _, num_latents, latent_dim = latents_shape
    channels = byte_arrays.num_channels(byte_array_shape)
    length = byte_arrays.length(byte_array_shape)
    width = layer.query.units
    latent_products = 2 * num_latents * latent_dim * 2 * width  # query and output
    byte_products = 2 * length * channels * 2 * width  # key and value
    attention = 2 * num_latents * length * 2 * width  # scores and sums
    around = latent_products + mlp_cost(layer.mlp, latents_shape).flops
    actual = layer.describe_cost()
    textbook = around + byte_products + attention
    return Cost(textbook, around + actual.flops, actual.temporary_bytes)


def latent_transformer_cost(layer, latents_shape):
    """Cost of all self-attention layers of one latent Transformer."""
    costs = [self_attention_cost(sublayer, latents_shape) for sublayer in layer.self_attention_layers]
    return Cost(
        sum(c.textbook_flops for c in costs), sum(c.flops for c in costs), max(c.temporary_bytes for c in costs)
    )


def self_attention_cost(layer, latents_shape):
    """Cost of self-attention among N latents of D channels, with its MLP."""
    _, num_latents, latent_dim = latents_shape
    mlp = mlp_cost(layer.mlp, latents_shape)
    flops = 2 * num_latents * latent_dim * 4 * latent_dim + 2 * num_latents**2 * 2 * latent_dim + mlp.flops
    temporary = num_latents * (4 * latent_dim + 2 * layer.num_heads * num_latents)
    return Cost(flops, flops, temporary * item_bytes(layer.compute_dtype))


def mlp_cost(layer, inputs_shape):
    """Cost of two linear maps over all but the first axis."""
    flops = 2 * math.prod(inputs_shape[1:]) * 2 * layer.widening_factor * inputs_shape[-1]
    temporary = 2 * layer.widening_factor * math.prod(inputs_shape[1:])
    return Cost(flops, flops, temporary * item_bytes(layer.compute_dtype))


def _only_adds(layer):
    """Whether the weights of a layer are no factors of a matrix product."""
    return type(layer).__name__ in {
        "LatentArray",
        "LearnedPositions",
        "ModalityEncoding",
        "LayerNormalization",
        "BatchNormalization",
    }


def item_bytes(dtype):
    """Bytes of one number of a floating-point dtype, by its name."""
    return {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}[dtype]
