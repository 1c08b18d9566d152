"""What the latents of a Perceiver look at: attention maps of every cross-attend, as in the paper's figure 3."""

from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from keras_perceiver._checks import require, require_positive
from keras_perceiver.layers import CrossAttention

NUMBERS_AT_ONCE = 2**24  # weights of latents, heads and bytes that are held together


@dataclass(frozen=True)
class AttentionMaps:
    """Attention weights of X cross-attends, in the order in which they are applied; mean of the heads.

    Attributes:
        latents: numbers of the L latents that were chosen.
        chosen: X times `{modality: (B, L, s_1, .., s_d) float32}`: what each of them attends to. s_a are the lengths of
            the byte array: behind patches or a stem they are shorter than those of the input.
        mean: X times `{modality: (B, s_1, .., s_d) float32}`: the mean of all N latents.
    """

    latents: tuple[int, ...]
    chosen: list[dict[str, np.ndarray]]
    mean: list[dict[str, np.ndarray]]


def attention_maps(model, inputs, *, latents=4):
    """Computes what the latents of a Perceiver attend to.

    The weights come from the factors of the byte array, see `keras_perceiver.attention_weights`: it is not built for
    them, and a few latents are held at a time. Where the model permutes its bytes, or flattens their axes, the maps are
    those of the bytes in their own places.

    Args:
        model: from `build_classifier` or `build_encoder`.
        inputs: what it takes, one batch: (B, S_1, .., S_d, c), or a dictionary.
        latents: how many, evenly chosen among the N, or their numbers.

    Returns:
        `AttentionMaps`.

    Raises:
        InputError: where `model` has no cross-attends, or `latents` are none of its own.

    Reference: Jaegle et al. 2021, figure 3.
    """
    layers, attended = _cross_attends(model)
    calls = list(attended(inputs, training=False).values())
    num_latents = calls[0]["latents"].shape[1]
    numbers = _numbers(latents, num_latents)
    chosen, mean = [], []
    for layer, call in zip(layers, calls, strict=True):
        chosen.append(_maps(model, _weights(layer, call, list(numbers)), num_leading=2))
        mean.append(_maps(model, _mean(layer, call), num_leading=1))
    return AttentionMaps(numbers, chosen, mean)


def _cross_attends(model):
    """The layers of all cross-attends in order, and a model of what each of them is given."""
    layers, arguments = [], []

    def record(layer, *args, **kwargs):
        if isinstance(layer, CrossAttention):
            layers.append(layer)
            arguments.append(dict(zip(("latents", "byte_array"), args, strict=True)))
        return layer(*args, **kwargs)

    # As in `describe_model`: the clone's layers are the model's own.
    clone = keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=record)
    require(bool(layers), "`model` must be a Perceiver: it has no cross-attends", model=model.name)
    # A dictionary, and no list: of one element Keras would return that element.
    return layers, keras.Model(clone.input, {f"{number:04d}": call for number, call in enumerate(arguments)})


def _numbers(latents, num_latents):
    """Numbers of the chosen latents."""
    if isinstance(latents, int):
        require_positive(latents=latents)
        return tuple(int(i) for i in np.unique(np.linspace(0, num_latents - 1, latents).round().astype(int)))
    legal = len(latents) > 0 and all(isinstance(i, int) and 0 <= i < num_latents for i in latents)
    require(legal, f"`latents` must be numbers from 0 to {num_latents - 1}", latents=latents)
    return tuple(latents)


def _weights(layer, call, numbers):
    """`{modality: (B, L, S_1, .., S_d)}` of some latents; a lone segment has the name ""."""
    weights = layer.attention_weights(ops.take(call["latents"], numbers, axis=1), call["byte_array"])
    return weights if isinstance(weights, dict) else {"": weights}


def _mean(layer, call):
    """`{modality: (B, S_1, .., S_d)}`, over all latents."""
    batch, num_latents, _ = call["latents"].shape
    group = NUMBERS_AT_ONCE // (batch * layer.num_heads * layer.problem.total_length)
    group = min(max(1, group), num_latents)
    total = {}
    for start in range(0, num_latents, group):
        numbers = list(range(start, min(start + group, num_latents)))
        for name, weights in _weights(layer, call, numbers).items():
            total[name] = total.get(name, 0) + ops.sum(weights, axis=1)
    return {name: value / num_latents for name, value in total.items()}


def _maps(model, weights, num_leading):
    """Weights as NumPy arrays, by the names of the model's inputs, each where its byte comes from.

    Args:
        weights: `{modality: (.., S_1, .., S_d)}` as the front of the encoder has left the bytes.
        num_leading: axes before S_1.
    """
    names = [tensor.name for tensor in model.inputs if not tensor.name.endswith("_padding_mask")]
    layers = {layer.name: layer for layer in model.layers}
    maps = {}
    for modality, tensor in weights.items():
        name, map_ = modality or names[0], ops.convert_to_numpy(tensor)
        lead, sizes = map_.shape[:num_leading], map_.shape[num_leading:]
        if f"{name}_permuted" in layers:
            flat = map_.reshape(*lead, -1)  # (.., M)
            map_ = np.empty_like(flat)
            map_[..., layers[f"{name}_permuted"].order(flat.shape[-1])] = flat
        if f"{name}_flattened" in layers:
            sizes = layers[f"{name}_flattened"].input.shape[1:-1]
        maps[name] = map_.reshape(*lead, *sizes)
    return maps
