"""Makes `optax_lamb.json`: weights that optax' LAMB leaves, for `tests/training/test_lamb.py`.

    pip install optax && python tests/golden/optax_lamb.py

The gradient of step t at weights w is `w + sin(t + index)`, so that nothing but the numbers here is needed.
"""

import json
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
import optax

SETTINGS = {"b1": 0.9, "b2": 0.95, "eps": 1e-6, "weight_decay": 0.1}
SHAPES = {"kernel": (3, 7), "bias": (7,), "zeros": (5,)}
STEPS = (1, 2, 5, 100)


def learning_rate(step):
    return 0.02 / (1 + 0.1 * step)


def initial_weights():
    counts = {name: int(np.prod(shape)) for name, shape in SHAPES.items()}
    weights = {name: np.cos(np.arange(counts[name])).reshape(shape) for name, shape in SHAPES.items()}
    return {**weights, "zeros": np.zeros(SHAPES["zeros"])}


def main():
    jax.config.update("jax_enable_x64", True)
    weights = initial_weights()
    optimizer = optax.lamb(learning_rate, **SETTINGS, mask={name: name != "bias" for name in SHAPES})
    state, found = optimizer.init(weights), {}
    for step in range(max(STEPS)):
        gradients = {name: w + np.sin(step + np.arange(w.size)).reshape(w.shape) for name, w in weights.items()}
        updates, state = optimizer.update(gradients, state, weights)
        weights = optax.apply_updates(weights, updates)
        if step + 1 in STEPS:
            found[step + 1] = {name: np.asarray(w).tolist() for name, w in weights.items()}
    content = {"optax": version("optax"), "settings": SETTINGS, "after": found}
    Path(__file__).with_name("optax_lamb.json").write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
