"""The Perceiver in slow, obvious NumPy (float64), written from the paper and from nothing of ours.

It builds the byte array, loops over examples, heads and queries, and leaves masked bytes out by
leaving them out. Only `weights_of` knows Keras, and weights are looked up by their names.
"""

import itertools
import math

import keras
import numpy as np

EPSILON = 1e-5  # of LayerNorm, appendix C


def weights_of(layer):
    """`{name within the layer: float64 array}` of a built layer or model."""
    prefix = "" if isinstance(layer, keras.Model) else layer.name + "/"
    return {w.path.removeprefix(prefix): keras.ops.convert_to_numpy(w.value).astype("float64") for w in layer.weights}


def inside(weights, name):
    """The weights of one sublayer, named from there on."""
    found = {key.removeprefix(name + "/"): w for key, w in weights.items() if key.startswith(name + "/")}
    if not found:
        raise KeyError(f"no weights inside {name!r}, only {sorted(weights)}")
    return found


# Positions (section 3.2)


def coordinate(index, size):
    """Position of element `index` on an axis of `size` elements: from -1 to 1, both included."""
    return -1.0 if size == 1 else -1.0 + 2.0 * index / (size - 1)


def fourier_features(point, num_bands, max_resolution):
    """Features of one point (d,): `[raw | all sin, axis by axis | all cos, axis by axis]`."""
    point = [float(x) for x in point]
    sines, cosines = [], []
    for x, resolution in zip(point, max_resolution, strict=True):
        for band in range(num_bands):
            nyquist = resolution / 2
            frequency = 1.0 if num_bands == 1 else 1.0 + (nyquist - 1.0) * band / (num_bands - 1)
            sines.append(math.sin(math.pi * frequency * x))
            cosines.append(math.cos(math.pi * frequency * x))
    return [*point, *sines, *cosines]


def fourier_grid(sizes, num_bands, max_resolution):
    """Features of a grid: (S_1, .., S_d, d(2K+1))."""
    grid = np.zeros((*sizes, len(sizes) * (2 * num_bands + 1)))
    for index in itertools.product(*map(range, sizes)):
        point = [coordinate(i, size) for i, size in zip(index, sizes, strict=True)]
        grid[index] = fourier_features(point, num_bands, max_resolution)
    return grid


def byte_rows(content, *features):
    """The byte array (B, M, C) of content (B, S_1, .., S_d, c) and features (S_1, .., S_d, E) in turn."""
    rows = []
    for example in np.asarray(content, "float64"):
        row = [np.concatenate([example[i], *(f[i] for f in features)]) for i in np.ndindex(example.shape[:-1])]
        rows.append(row)
    return np.array(rows)


# Parts (section 3.1, appendix C)


def layer_norm(weights, x):
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + EPSILON) * weights["gamma"] + weights["beta"]


def gelu(x):
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def linear(weights, x):
    return x @ weights["kernel"] + weights["bias"]


def mlp(weights, x):
    return linear(inside(weights, "contraction"), gelu(linear(inside(weights, "hidden"), x)))


def attend(query, keys, values, mask=None):
    """One query (k,) over keys (M, k) and values (M, k): what is masked is not there at all."""
    scores = [(m, float(query @ key) / math.sqrt(len(query))) for m, key in enumerate(keys) if mask is None or mask[m]]
    if not scores:
        return np.zeros(values.shape[-1])
    largest = max(score for _, score in scores)
    exponentials = [(m, math.exp(score - largest)) for m, score in scores]
    total = sum(e for _, e in exponentials)
    return sum(e / total * values[m] for m, e in exponentials)


def attention(query, key, value, num_heads, mask=None):
    """(B, N, h·k) queries over (B, M, h·k) keys and values; `mask` (B, M), True for a real byte."""
    head_dim = query.shape[-1] // num_heads
    out = np.zeros_like(query)
    for b, n, h in itertools.product(*map(range, (query.shape[0], query.shape[1], num_heads))):
        head = slice(h * head_dim, (h + 1) * head_dim)
        out[b, n, head] = attend(
            query[b, n, head], key[b, :, head], value[b, :, head], None if mask is None else mask[b]
        )
    return out


def cross_attention(weights, latents, rows, num_heads=1, mask=None):
    """A cross-attend block of latents (B, N, D) on a byte array (B, M, C)."""
    normed = layer_norm(inside(weights, "byte_norm"), rows)
    attended = attention(
        linear(inside(weights, "query"), layer_norm(inside(weights, "latent_norm"), latents)),
        linear(inside(weights, "key"), normed),
        linear(inside(weights, "value"), normed),
        num_heads,
        mask,
    )
    latents = latents + linear(inside(weights, "attention_output"), attended)
    return latents + mlp(inside(weights, "mlp"), layer_norm(inside(weights, "mlp_norm"), latents))


def cross_attention_weights(weights, latents, rows, num_heads=1, mask=None):
    """What each latent attends to in such a block, softmax(Q Kᵀ), the mean of the heads: (B, N, M)."""
    query = linear(inside(weights, "query"), layer_norm(inside(weights, "latent_norm"), latents))
    key = linear(inside(weights, "key"), layer_norm(inside(weights, "byte_norm"), rows))
    width, one_hot = query.shape[-1] // num_heads, np.eye(rows.shape[1])
    out = np.zeros((*query.shape[:2], rows.shape[1]))
    for b, n, h in itertools.product(*map(range, (query.shape[0], query.shape[1], num_heads))):
        head = slice(h * width, (h + 1) * width)
        # With unit vectors as values, what comes back are the weights.
        out[b, n] += attend(query[b, n, head], key[b, :, head], one_hot, None if mask is None else mask[b]) / num_heads
    return out


def self_attention(weights, latents, num_heads):
    """A layer of the latent Transformer; its linear map gives queries, keys and values in this order."""
    both = linear(inside(weights, "query_key_value"), layer_norm(inside(weights, "attention_norm"), latents))
    query, key, value = np.split(both, 3, axis=-1)
    latents = latents + linear(inside(weights, "attention_output"), attention(query, key, value, num_heads))
    return latents + mlp(inside(weights, "mlp"), layer_norm(inside(weights, "mlp_norm"), latents))


def latent_transformer(weights, latents, num_layers, num_heads):
    for layer in range(1, num_layers + 1):
        latents = self_attention(inside(weights, f"self_attention_{layer}"), latents, num_heads)
    return latents


# The whole


def encoder(
    weights,
    rows,
    *,
    mask=None,
    num_blocks,
    num_cross_attends,
    at_start=False,
    share_weights=True,
    num_self_attention_layers,
    num_self_attention_heads,
    num_cross_attention_heads=1,
):
    """Latents (B, N, D) of a byte array (B, M, C): P blocks, X cross-attends between or before them."""
    latents = np.stack([weights["latent_array/latent_array"]] * len(rows))
    crossed = 0
    for block in range(num_blocks):
        if at_start:
            crossings = num_cross_attends if block == 0 else 0
        else:
            crossings = 1 if block * num_cross_attends % num_blocks == 0 else 0
        for _ in range(crossings):
            crossed += 1
            own = min(crossed, 2) if share_weights else crossed
            latents = cross_attention(
                inside(weights, f"cross_attention_{own}"), latents, rows, num_cross_attention_heads, mask
            )
        if num_self_attention_layers:
            own = 1 if share_weights else block + 1
            latents = latent_transformer(
                inside(weights, f"latent_transformer_{own}"),
                latents,
                num_self_attention_layers,
                num_self_attention_heads,
            )
    return latents


def classifier(weights, rows, **encoder_arguments):
    """Logits (B, classes): mean over the latents, then one linear map."""
    return linear(inside(weights, "logits"), encoder(weights, rows, **encoder_arguments).mean(axis=1))
