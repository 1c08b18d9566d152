"""The Perceiver as a `keras_tuner.HyperModel`."""

import dataclasses

import keras
import keras_tuner

from keras_perceiver._checks import given, require
from keras_perceiver.data import steps_per_epoch
from keras_perceiver.layers import FourierPositions
from keras_perceiver.models import build_classifier
from keras_perceiver.models.presets import NEEDS, has_effect
from keras_perceiver.training.configuration import check_names, configuration, resolved_recipe
from keras_perceiver.training.recipes import PRECISIONS
from keras_perceiver.training.resume import Position
from keras_perceiver.training.spaces import build_space, default_space, legal_space, model_at, recipe_at
from keras_perceiver.training.train import fit


class HyperPerceiver(keras_tuner.HyperModel):
    """A Perceiver and its training on one data set, tuned by any tuner of KerasTuner: `tuner.search()` needs no more.

    Facts are given here, with the names of `train`; choices are made in `build` and `fit`. Every point of the space is
    a legal model: heads and channels a head are chosen, and cross-attends and blocks for each; `latent_dim` and
    `num_blocks` follow. All of it is declared in `build`. The default point is the model and the recipe that `train`
    takes for these data.

    KerasTuner resets the dtype policy and the seed before each trial: here both are set again, so that a trial depends
    on its point and on nothing else.

    Args:
        source: a `Source`, see `load_source` and `dataset_source`.
        space: `{name: values}` of what may be tuned, a list or a range such as `{"min": 1e-3, "max": 1e-2, "sampling":
            "log"}`; None for what lies around the default. Of a list the values that these data cannot take are left
            out, see `left_out`; `null` for `patch_size` leaves what stands in front of the model.
        seed: of the initial weights, the order and the augmentation of every trial.
        preset, model, base_recipe, recipe, preprocess: see `train`.
        name: of the hyper-model.

    Attributes:
        left_out: `{name: [(value, reason), ..]}`.

    Raises:
        InputError: where the space names what is unknown, has no legal point, or an argument is wrong.

    Example::

        tuner = keras_tuner.RandomSearch(HyperPerceiver(load_source("digits")), "val_accuracy", max_trials=20)
        tuner.search()
    """

    def __init__(
        self,
        source,
        *,
        space=None,
        seed=0,
        preset=None,
        model=None,
        base_recipe=None,
        recipe=None,
        preprocess=None,
        name=None,
    ):
        super().__init__(name=name)
        check_names("perceiver", preset, base_recipe)
        recipe = given(recipe)
        self.source = source
        self.seed = seed
        self.config = configuration(source, seed, "perceiver", model or {}, recipe, preprocess, preset, base_recipe)
        self.recipe = resolved_recipe(source, recipe, base_recipe, preprocess)
        require(
            self.recipe.ema_momentum is None,
            "`ema_momentum` must be None: KerasTuner keeps the weights themselves",
            ema_momentum=self.recipe.ema_momentum,
        )
        model, examples = self.config["model"], len(source.splits["train"])
        if space is None:
            space = default_space(model, self.recipe, source.modality, examples)
            self.choices, self.left_out = build_space(space, model, self.recipe, source.modality), {}
        else:
            self.choices = build_space(space, model, self.recipe, source.modality)
            self.choices, self.left_out = legal_space(self.choices, model, self.recipe, examples)

    def build(self, hp):
        """The compiled model at one point of the space."""
        return self.compiled(self.point(hp))

    def fit(self, hp, model, *data, epochs=None, initial_epoch=0, callbacks=(), verbose=0, **named):
        """Trains a model of `build`, with validation beside it.

        Args:
            hp: the point.
            model: what `build` has returned.
            *data: none: they are those of the `Source`.
            epochs: where it ends; None for the recipe's epochs, over which the learning rate is scheduled in any case.
            initial_epoch: how many are done, as Hyperband goes on with a trial.
            callbacks: Keras callbacks.
            verbose: of KerasTuner alone.
            **named: none, likewise: `validation_data`, `batch_size` and the like are those of the point.

        Returns:
            Keras' `History`.
        """
        require(
            not data and not named,
            "`tuner.search` must be given no data: those of the `Source` are augmented and batched as the point says",
            given=[*(type(one).__name__ for one in data), *sorted(named)],
            error=keras_tuner.errors.FatalValueError,  # which KerasTuner does not take for a failed trial
        )
        recipe = self.recipe_at(self.point(hp))
        steps = steps_per_epoch(self.source.splits["train"], recipe.batch_size)
        for variable in model.optimizer.variables:  # that of a scaled loss holds another optimiser
            if variable.name == "iteration":  # steps, where `iterations` may be updates of several steps
                variable.assign(initial_epoch * steps)
        return fit(
            model,
            self.source,
            recipe.replaced(epochs=epochs),
            self.seed,
            preprocess=self.config["preprocess"],
            position=Position(initial_epoch, 0),
            callbacks=callbacks,
        )

    def point(self, hp):
        """`{name: value}` of every hyper-parameter, which is declared where it is not."""
        return {name: choices.declare(hp) for name, choices in self.choices.items()}

    def compiled(self, point):
        """The classifier at a point, with fresh weights, and with the optimiser of its recipe."""
        keras.utils.set_random_seed(self.seed)
        network, recipe = self.network(point), self.recipe_at(point)
        steps = steps_per_epoch(self.source.splits["train"], recipe.batch_size)
        recipe.compile(network, steps, multi_label=self.source.is_multi_label)
        return network

    def network(self, point):
        """The classifier at a point, not compiled."""
        arguments = {**self.config["model"], **model_at(point, self.config["model"])}
        policy = PRECISIONS[self.recipe.precision]
        return build_classifier(**arguments, name=f"{self.source.name}_perceiver", dtype=policy)

    def recipe_at(self, point):
        """The `Recipe` at a point."""
        return dataclasses.replace(self.recipe, **recipe_at(point))

    def overrides(self, point):
        """`(model, recipe)` at a point: what `train` is to be given beside the arguments that are given here, of which
        None takes one away.

        `train` takes None for what is not given. So resolutions that are those of the axes are told in numbers.
        """
        known, model = self.config["model"], model_at(point, self.config["model"])
        if known.get("max_resolution") is not None and model.get("max_resolution", known) is None:
            model["max_resolution"] = self._lengths(point)
        useless = {
            name for name, (other, values) in NEEDS.items() if not has_effect(values, model.get(other, values[0]))
        }
        return {**model, **dict.fromkeys(useless)}, recipe_at(point)

    def _lengths(self, point):
        """The lengths of the index axes to which positions are attached, by modality where there are several."""
        layers = [layer for layer in self.network(point).layers if isinstance(layer, FourierPositions)]
        # A layer's output is a list of what is in the segment, by name: its content is the first.
        lengths = {layer.name.removesuffix("_positions"): list(layer.output[0].shape[1:-1]) for layer in layers}
        return lengths if isinstance(self.config["model"]["input_shape"], dict) else lengths["inputs"]
