"""The Perceiver as a `keras_tuner.HyperModel`."""

import keras
import keras_tuner

from keras_perceiver.models import build_classifier


class HyperPerceiver(keras_tuner.HyperModel):
    """A Perceiver classifier whose size and learning rate are searched by any KerasTuner tuner.

    Every point of the space is a legal model: heads and channels per head are chosen, the channels of
    the latents follow. Names are those of `build_classifier` and `Recipe`; the default point is the model
    and the recipe that are given.

    Args:
        model: arguments of `build_classifier`, such as `PRESETS["digits"]`.
        recipe: `Recipe` that trains every trial.
        steps_per_epoch: for the learning-rate schedule.
        seed: of the initial weights of every trial.
        dtype: dtype policy of every trial; KerasTuner resets the global one.
    """

    def __init__(self, model, recipe, steps_per_epoch, *, seed=0, dtype="float32", name=None):
        super().__init__(name=name)
        self.model = model
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.dtype = dtype

    def build(self, hp):
        """The compiled model at one point of the space."""
        heads = self.model["num_self_attention_heads"]
        head_dim = self.model["latent_dim"] // heads
        chosen = {
            "num_latents": hp.Choice("num_latents", **_around(self.model["num_latents"])),
            "num_self_attention_layers": hp.Choice(
                "num_self_attention_layers", **_around(self.model["num_self_attention_layers"])
            ),
            "num_self_attention_heads": hp.Choice("num_self_attention_heads", **_around(heads)),
        }
        chosen["latent_dim"] = chosen["num_self_attention_heads"] * hp.Choice("head_dim", **_around(head_dim))
        rate = hp.Float(
            "learning_rate",
            self.recipe.learning_rate / 4,
            self.recipe.learning_rate * 4,
            sampling="log",
            default=self.recipe.learning_rate,
        )
        keras.utils.set_random_seed(self.seed)
        network = build_classifier(**{**self.model, **chosen}, dtype=self.dtype)
        self.recipe.replaced(learning_rate=rate).compile(network, self.steps_per_epoch)
        return network


def _around(value):
    """A choice among half, once and twice a number, which is the default."""
    return {"values": sorted({max(1, value // 2), value, 2 * value}), "ordered": True, "default": value}
