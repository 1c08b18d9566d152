"""A Perceiver and a budget that are as small as they can be: for tests of what surrounds the training."""

import io

from rich.console import Console

TINY_MODEL = {
    "num_latents": 3,
    "latent_dim": 8,
    "num_bands": 2,
    "num_blocks": 1,
    "num_cross_attends": 1,
    "num_self_attention_layers": 1,
    "num_self_attention_heads": 2,
}
TINY_RECIPE = {"epochs": 3, "batch_size": 128, "jit_compile": False}
TINY_TRANSFORMER = {"width": 8, "num_self_attention_layers": 1, "num_self_attention_heads": 2}
TINY_SEARCH = {
    "space": {"num_latents": [3, 5], "batch_size": [128, 256], "noise_std": {"min": 0.0, "max": 20.0}},
    "model": TINY_MODEL,
    "recipe": {"jit_compile": False},
    "epochs": 1,
}
TINY_NETWORKS = {  # by name, see `NETWORKS`
    "perceiver": TINY_MODEL,
    "resnet18": {"width": 2},
    "vit": TINY_TRANSFORMER,
    "transformer": TINY_TRANSFORMER,
}


def tiny_options(network="perceiver"):
    """Options of the command for the smallest run with that network."""
    arguments = {**TINY_NETWORKS[network], "epochs": 3, "batch_size": 128}
    return [f"--{name.replace('_', '-')}={value}" for name, value in arguments.items()] + ["--no-jit"]


TINY_OPTIONS = tiny_options()


def quiet():
    """A console that shows nothing."""
    return Console(file=io.StringIO())
