"""A Perceiver and a budget that are as small as they can be: for tests of what surrounds the training."""

import io

from rich.console import Console

TINY_MODEL = {
    "num_latents": 3,
    "latent_dim": 8,
    "num_bands": 2,
    "num_self_attention_layers": 1,
    "num_self_attention_heads": 2,
}
TINY_RECIPE = {"epochs": 3, "batch_size": 128, "jit_compile": False}
TINY_OPTIONS = [
    f"--{name.replace('_', '-')}={value}" for name, value in {**TINY_MODEL, "epochs": 3, "batch_size": 128}.items()
] + ["--no-jit"]


def quiet():
    """A console that shows nothing."""
    return Console(file=io.StringIO())
