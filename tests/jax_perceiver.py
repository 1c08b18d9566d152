"""A Perceiver and its loss in plain JAX, its optimisers in NumPy; float64, from the papers and from nothing of ours.

The textbook form: the byte array is built, gradients are `jax.grad`'s. Weights are a flat dictionary; their names,
those of layers, are all that it shares with what it is compared with.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_disable_most_optimizations", True)  # compiling is what takes the time

LAYER_NORM_EPSILON = 1e-5


def fourier_features(sizes, num_bands):
    """(M, d(2K+1)): positions, their sines axis by axis, their cosines."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in sizes), indexing="ij"), -1)
    positions = grid.reshape(-1, len(sizes))
    angles = [np.pi * np.outer(positions[:, a], np.linspace(1, s / 2, num_bands)) for a, s in enumerate(sizes)]
    return np.concatenate([positions, *map(np.sin, angles), *map(np.cos, angles)], axis=1)


def logits(weights, pictures, *, num_bands, num_blocks, num_cross_attends, num_layers, num_heads, residual=True):
    """(B, classes) of (B, H, W, c) pictures, in [-1, 1]."""
    size, features = len(pictures), fourier_features(pictures.shape[1:-1], num_bands)
    content = pictures.reshape(size, -1, pictures.shape[-1])
    byte_array = jnp.concatenate([content, jnp.broadcast_to(features, (size, *features.shape))], -1)
    x = jnp.broadcast_to(weights["latent_array/latent_array"], (size, *weights["latent_array/latent_array"].shape))
    crossed = 0
    for block in range(num_blocks):
        if block % (num_blocks // num_cross_attends) == 0:
            crossed += 1
            x = _cross_attend(weights, f"cross_attention_{min(crossed, 2)}", x, byte_array, residual)
        for layer in range(num_layers):
            x = _self_attend(weights, f"latent_transformer_1/self_attention_{layer + 1}", x, num_heads)
    return _linear(weights, "logits", x.mean(axis=1))


def _cross_attend(weights, name, x, byte_array, residual):
    query = _linear(weights, f"{name}/query", _norm(weights, f"{name}/latent_norm", x))
    normed = _norm(weights, f"{name}/byte_norm", byte_array)
    key, value = _linear(weights, f"{name}/key", normed), _linear(weights, f"{name}/value", normed)
    attended = _linear(weights, f"{name}/attention_output", _attend(query, key, value, 1))
    x = x + attended if residual else attended
    return x + _mlp(weights, f"{name}/mlp", _norm(weights, f"{name}/mlp_norm", x))


def _self_attend(weights, name, x, num_heads):
    both = _linear(weights, f"{name}/query_key_value", _norm(weights, f"{name}/attention_norm", x))
    x = x + _linear(weights, f"{name}/attention_output", _attend(*jnp.split(both, 3, axis=-1), num_heads))
    return x + _mlp(weights, f"{name}/mlp", _norm(weights, f"{name}/mlp_norm", x))


def _attend(query, key, value, num_heads):
    query, key, value = (t.reshape(*t.shape[:2], num_heads, -1) for t in (query, key, value))
    scores = jnp.einsum("bnhk,bmhk->bhnm", query, key) / np.sqrt(query.shape[-1])
    return jnp.einsum("bhnm,bmhk->bnhk", jax.nn.softmax(scores), value).reshape(*query.shape[:2], -1)


def _norm(weights, name, x):
    centred = x - x.mean(-1, keepdims=True)
    scale = jnp.sqrt((centred**2).mean(-1, keepdims=True) + LAYER_NORM_EPSILON)
    return centred / scale * weights[f"{name}/gamma"] + weights[f"{name}/beta"]


def _mlp(weights, name, x):
    return _linear(weights, f"{name}/contraction", jax.nn.gelu(_linear(weights, f"{name}/hidden", x), approximate=True))


def _linear(weights, name, x):
    return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def loss(weights, pictures, labels, smoothing, **settings):
    """Mean cross-entropy of smoothed one-hot labels."""
    num_classes = labels.shape[-1]
    target = labels * (1 - smoothing) + smoothing / num_classes
    return -(target * jax.nn.log_softmax(logits(weights, pictures, **settings))).sum(-1).mean()


@functools.cache
def _slope(smoothing, **settings):
    """The loss and its gradient, compiled once."""
    return jax.jit(jax.value_and_grad(lambda w, x, y: loss(w, x, y, smoothing, **settings)))


def adamw(weight, gradient, moments, step, rate, decay, beta_1, beta_2, epsilon):
    """Loshchilov & Hutter 2019, algorithm 2: the weight and its moments after step 1, 2, .."""
    first, second = _moments(gradient, moments, beta_1, beta_2)
    # Kingma & Ba 2015, the last lines of section 2: epsilon beside the root of the second moment that is not corrected.
    rate_now = rate * np.sqrt(1 - beta_2**step) / (1 - beta_1**step)
    return weight - rate * decay * weight - rate_now * first / (np.sqrt(second) + epsilon), (first, second)


def lamb(weight, gradient, moments, step, rate, decay, beta_1, beta_2, epsilon):
    """You et al. 2020, algorithm 2, with the identity for φ."""
    first, second = _moments(gradient, moments, beta_1, beta_2)
    update = first / (1 - beta_1**step) / (np.sqrt(second / (1 - beta_2**step)) + epsilon) + decay * weight
    lengths = np.sqrt((weight**2).sum()), np.sqrt((update**2).sum())
    ratio = lengths[0] / lengths[1] if min(lengths) > 0 else 1
    return weight - rate * ratio * update, (first, second)


def _moments(gradient, moments, beta_1, beta_2):
    first, second = moments
    return beta_1 * first + (1 - beta_1) * gradient, beta_2 * second + (1 - beta_2) * gradient**2


def train(weights, batches, *, optimizer, rates, decay, is_decayed, smoothing, beta_1=0.9, beta_2, epsilon, **settings):
    """`[(loss before the step, weights after it), ..]`, one for each batch.

    Args:
        weights: `{name: array}`.
        batches: list of (pictures, one-hot labels).
        optimizer: `adamw` or `lamb`.
        rates: the learning rate of each step.
        decay: weight decay, of the weights for whose name `is_decayed` is true.
        smoothing: of the labels.
    """
    slope = _slope(smoothing, **settings)
    moments = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in weights.items()}
    trace = []
    for step, ((x, y), rate) in enumerate(zip(batches, rates, strict=True), start=1):
        value, gradients = slope(weights, x, y)
        after = {}
        for name, weight in weights.items():
            own_decay = decay if is_decayed(name) else 0.0
            after[name], moments[name] = optimizer(
                weight, np.asarray(gradients[name]), moments[name], step, rate, own_decay, beta_1, beta_2, epsilon
            )
        weights = after
        trace.append((float(value), weights))
    return trace
