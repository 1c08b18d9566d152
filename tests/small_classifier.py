"""One small classifier of grey pictures whose answers depend on them, for the tests of exports."""

import keras
import numpy as np

from keras_perceiver import build_classifier

NAMES = ["zebra", "yak", "wolf"]
SHAPE = (5, 7, 1)


def small_classifier(seed=1, **arguments):
    """A classifier whose logits are not zero."""
    keras.utils.set_random_seed(seed)
    sizes = {"num_bands": 2, "num_latents": 3, "latent_dim": 8, "num_blocks": 2, "num_cross_attends": 2}
    sizes |= {"num_self_attention_layers": 1, "num_self_attention_heads": 2}
    model = build_classifier(arguments.pop("input_shape", SHAPE), 3, **sizes, **arguments)
    model.get_layer("logits").kernel.assign(np.random.default_rng(2).normal(size=(8, 3)))
    return model
