"""How a model is trained: everything that is not the model, as data, and what Keras needs of it."""

import dataclasses
import math
from dataclasses import dataclass

import keras
import tensorflow as tf

from keras_perceiver._checks import (
    given,
    require,
    require_above,
    require_at_least,
    require_between,
    require_one_of,
    require_positive,
)
from keras_perceiver.training.best import KEPT
from keras_perceiver.training.distribution import clip_whole_gradients
from keras_perceiver.training.lamb import Lamb
from keras_perceiver.training.schedules import SCHEDULES, RunSchedule


def _adamw(schedule, no_decay, **settings):
    optimizer = keras.optimizers.AdamW(schedule, **settings)
    optimizer.exclude_from_weight_decay(var_names=list(no_decay))
    return optimizer


def _lamb(schedule, no_decay, **settings):
    return Lamb(schedule, no_decay=no_decay, **settings)


OPTIMIZERS = {"adamw": _adamw, "lamb": _lamb}
# By name, the dtype policy of Keras with which a model is built.
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run.

    Attributes:
        epochs: passes over the training examples, at least 1.
        batch_size: B.
        learning_rate: at the top of the schedule.
        optimizer: "adamw" or "lamb", the paper's (see `Lamb`).
        schedule: "cosine", "flat_cosine", "step" or "constant", see `RunSchedule`.
        warmup_fraction: of all steps, in [0, 1): over them the rate rises linearly.
        flat_fraction, decay_at: of the schedules "flat_cosine" and "step".
        weight_decay: decoupled, times the learning rate, a step; within the trust ratio of LAMB.
        no_decay: names of weights that are not decayed: biases, scale and offset of normalisations, the latent array.
        global_clip_norm: largest norm of all gradients together; None for any.
        ema_momentum: of a running average of the weights, in [0, 1), which is evaluated and kept in the end; None for
            the weights themselves.
        label_smoothing: in [0, 1).
        beta_2: in [0, 1), of the second moments.
        crop_min_area, flip_rate, rand_augment_layers, rand_augment_magnitude, shift_rate, noise_std: see
            `augment_image`; none by default.
        mix_up, cut_mix: see `mix_batch`; none by default.
        color_jitter: see `augment_video`; none by default.
        scale_range, rotation_axis, jitter_std, point_dropout: see `augment_points`; none by default.
        fade_share: see `augment_audio`; none by default.
        time_masks, frequency_masks, time_mask_share, frequency_mask_share: see `spec_augment`; none by default.
        min_steps, max_steps: where they are given, data of which `epochs` would take fewer steps are trained on in more
            epochs, and data of which they would take more in fewer.
        crop_before_resizing: whether crops are taken of pictures as they are in their files, which are decoded again
            each epoch, as the paper's are; otherwise of pictures in the size of the model, which may lie in memory.
        crop_from_epochs: random crops are left out where an example is seen less often: a model that sees each picture
            a few times learns more from it whole.
        jit_compile: whether XLA compiles the training step; worth its seconds but for the shortest runs.
        precision: key of `PRECISIONS`: of products and activations. Weights, positions, softmax and logits are float32
            in each; in "float16" the loss is scaled, and a step whose gradients overflow is left out.
        gradient_accumulation_steps: steps whose gradients are averaged for one update of the weights, at least 2; None
            for one. Schedules count steps, not updates, as Keras does.
        steps_per_execution: steps that the model takes before Python hears of them; must divide the steps of an epoch.
        patience: epochs without a better one on validation after which a run ends; None for never. See `BestEpoch`.
        keep: "last" or "best": the epoch whose weights are kept, evaluated and exported.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str = "adamw"
    schedule: str = "cosine"
    warmup_fraction: float = 0.0
    flat_fraction: float = 0.5
    decay_at: tuple[float, ...] = (84 / 120, 102 / 120, 114 / 120)  # the paper's, for any number of epochs
    weight_decay: float = 0.0
    no_decay: tuple[str, ...] = ("bias", "gamma", "beta", "latent_array")
    global_clip_norm: float | None = None
    ema_momentum: float | None = None
    label_smoothing: float = 0.0
    beta_2: float = 0.999
    crop_min_area: float = 1.0
    flip_rate: float = 0.0
    rand_augment_layers: int = 0
    rand_augment_magnitude: float = 5.0
    shift_rate: float = 0.0
    noise_std: float = 0.0
    mix_up: float = 0.0
    cut_mix: float = 0.0
    color_jitter: float = 0.0
    scale_range: float = 0.0
    rotation_axis: str | None = None
    jitter_std: float = 0.0
    point_dropout: float = 0.0
    fade_share: float = 0.0
    time_masks: int = 0
    frequency_masks: int = 0
    time_mask_share: float = 0.2
    frequency_mask_share: float = 0.2
    min_steps: int | None = None
    max_steps: int | None = None
    crop_before_resizing: bool = False
    crop_from_epochs: int = 0
    jit_compile: bool = True
    precision: str = "float32"
    gradient_accumulation_steps: int | None = None
    steps_per_execution: int = 1
    patience: int | None = None
    keep: str = "last"

    def __post_init__(self):
        require_positive(epochs=self.epochs, batch_size=self.batch_size)
        require_one_of(OPTIMIZERS, optimizer=self.optimizer)
        require_one_of(SCHEDULES, schedule=self.schedule)
        require_between(0, 1, flat_fraction=self.flat_fraction)
        require(
            all(isinstance(share, float) and 0 < share < 1 for share in self.decay_at),
            "`decay_at` must hold shares of the run, numbers in (0, 1)",
            decay_at=self.decay_at,
        )
        if self.global_clip_norm is not None:
            require_above(0, global_clip_norm=self.global_clip_norm)
        if self.ema_momentum is not None:
            require_between(0, 1, ema_momentum=self.ema_momentum)
        require_between(0, 1, label_smoothing=self.label_smoothing, warmup_fraction=self.warmup_fraction)
        require_between(0, 1, beta_2=self.beta_2, shift_rate=self.shift_rate)
        require_between(0, float("inf"), weight_decay=self.weight_decay, noise_std=self.noise_std)
        require_between(0, float("inf"), mix_up=self.mix_up, jitter_std=self.jitter_std)
        require_between(0, 1, color_jitter=self.color_jitter, fade_share=self.fade_share)
        require_between(0, 1, scale_range=self.scale_range, point_dropout=self.point_dropout)
        require_one_of((None, "x", "y", "z"), rotation_axis=self.rotation_axis)
        require_at_least(0, rand_augment_layers=self.rand_augment_layers, crop_from_epochs=self.crop_from_epochs)
        require_at_least(0, time_masks=self.time_masks, frequency_masks=self.frequency_masks)
        for name, low, high in (
            ("crop_min_area", 0, 1),
            ("flip_rate", 0, 1),
            ("cut_mix", 0, 1),
            ("time_mask_share", 0, 1),
            ("frequency_mask_share", 0, 1),
            ("rand_augment_magnitude", 0, 10),
        ):
            value = getattr(self, name)
            require(low <= value <= high, f"`{name}` must be a number in [{low}, {high}]", **{name: value})
        for name in ("min_steps", "max_steps", "patience"):
            if getattr(self, name) is not None:
                require_positive(**{name: getattr(self, name)})
        require_positive(steps_per_execution=self.steps_per_execution)
        if self.gradient_accumulation_steps is not None:
            require_at_least(2, gradient_accumulation_steps=self.gradient_accumulation_steps)
        require_one_of(PRECISIONS, precision=self.precision)
        require_one_of(KEPT, keep=self.keep)
        require(self.learning_rate > 0, "`learning_rate` must be positive", learning_rate=self.learning_rate)

    def build_optimizer(self, steps_per_epoch):
        """The Keras optimiser of a run with that many steps an epoch."""
        steps = self.epochs * steps_per_epoch
        schedule = RunSchedule(
            self.schedule,
            self.learning_rate,
            steps,
            round(self.warmup_fraction * steps),
            self.flat_fraction,
            self.decay_at,
        )
        return OPTIMIZERS[self.optimizer](
            schedule,
            self.no_decay,
            weight_decay=self.weight_decay,
            beta_2=self.beta_2,
            global_clipnorm=self.global_clip_norm,
            use_ema=self.ema_momentum is not None,
            ema_momentum=self.ema_momentum or 0.0,
            gradient_accumulation_steps=self.gradient_accumulation_steps,
        )

    def compile(self, model, steps_per_epoch, *, multi_label=False):
        """Compiles a classifier for this recipe, its optimiser and metrics built.

        The model must have been built with `dtype=PRECISIONS[precision]`.
        """
        require(
            steps_per_epoch % self.steps_per_execution == 0,
            "`steps_per_execution` must divide the steps of an epoch",
            steps_per_execution=self.steps_per_execution,
            steps=steps_per_epoch,
        )
        optimizer = self.build_optimizer(steps_per_epoch)
        if self.precision == "float16":
            # Keras would do it by itself, and write the optimiser without it into the file of the model, which then
            # cannot be loaded.
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(
            optimizer,
            self.loss(multi_label),
            metrics=[] if multi_label else ["accuracy"],
            jit_compile=self.jit_compile,
            steps_per_execution=self.steps_per_execution,
        )
        model.optimizer.build(model.trainable_variables)
        clip_whole_gradients(model.optimizer)
        if tf.distribute.has_strategy():
            return  # `fit` makes the variables of the metrics itself
        # A first step that has to make variables is traced twice, which takes as long as compiling it.
        nothing = keras.ops.zeros((1, model.output_shape[-1]))
        model.compute_metrics(None, nothing, nothing)
        model.reset_metrics()

    def loss(self, multi_label=False):
        """Softmax cross-entropy on logits and one-hot labels; for several labels an example, sigmoid cross-entropy."""
        if multi_label:
            return keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=self.label_smoothing)
        return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=self.label_smoothing)

    def replaced(self, **overrides):
        """This recipe with every override that is not None in place of its value."""
        return dataclasses.replace(self, **given(overrides))

    def resolved(self, num_examples, **overrides):
        """The recipe of a run on that many examples: with overrides, and within its steps.

        `batch_size` is at most the number of examples, `epochs` are as many as `min_steps` asks for and `max_steps`
        leaves, and there are no crops in fewer epochs than `crop_from_epochs`; unless they are given.
        """
        recipe = self.replaced(batch_size=min(self.batch_size, num_examples)).replaced(**overrides)
        if overrides.get("epochs") is None:
            steps = max(1, num_examples // recipe.batch_size)
            least = math.ceil((recipe.min_steps or 0) / steps)
            most = math.inf if recipe.max_steps is None else recipe.max_steps * recipe.batch_size // num_examples
            recipe = recipe.replaced(epochs=max(1, min(max(recipe.epochs, least), most)))
        if recipe.epochs < recipe.crop_from_epochs and overrides.get("crop_min_area") is None:
            recipe = recipe.replaced(crop_min_area=1.0)
        return recipe


# Ours, of all recipes for modalities.
_OURS = {"learning_rate": 3e-3, "beta_2": 0.95, "warmup_fraction": 0.1, "weight_decay": 0.05, "label_smoothing": 0.1}
# The paper's LAMB at 4e-3, a tenth of it after 84, 102 and 114 of 120 epochs. Where the paper is silent, DeepMind's
# later recipe: batches of 1024, decay 0.1 but for biases and normalisations, gradients clipped at 10. Flips belong to
# the Inception networks' preprocessing, of which the paper has its crops.
_PAPER = {
    "batch_size": 1024,
    "optimizer": "lamb",
    "learning_rate": 4e-3,
    "schedule": "step",
    "weight_decay": 0.1,
    "no_decay": ("bias", "gamma", "beta"),
    "global_clip_norm": 10.0,
    "crop_min_area": 0.08,
    "flip_rate": 0.5,
}

# By the name of a data set, or of a modality for data that have none of their own.
RECIPES = {
    "image": Recipe(
        epochs=100,
        batch_size=64,
        **_OURS,
        crop_min_area=0.6,
        crop_from_epochs=20,
        flip_rate=0.5,  # wrong for writing: `--flip-rate 0`
        max_steps=16_000,
    ),
    "audio": Recipe(
        epochs=60,
        batch_size=64,
        **_OURS,
        time_masks=2,
        frequency_masks=2,
        max_steps=8_000,
    ),
    # Frames are not flipped: to the left and to the right may be two classes.
    "video": Recipe(
        epochs=100,
        batch_size=16,
        **_OURS,
        crop_min_area=0.6,
        color_jitter=0.2,
        min_steps=2_000,
        max_steps=6_000,
    ),
    "audio_video": Recipe(
        epochs=100,
        batch_size=64,
        **_OURS,
        crop_min_area=0.6,
        color_jitter=0.2,
        time_masks=2,
        frequency_masks=2,
        min_steps=2_000,
        max_steps=4_000,
    ),
    # Points are scaled as in the paper; that some are hidden is of PointNet++.
    "points": Recipe(
        epochs=100,
        batch_size=32,
        **_OURS,
        scale_range=0.01,
        point_dropout=0.8,
        min_steps=2_000,
        max_steps=6_000,
    ),
    # Chosen by five-fold cross-validation within the training four fifths: 18 of 1,437 wrong. Moving nine in ten
    # pictures, in both directions, doubled the errors (24 against 11 of 863); averaging the weights changed nothing.
    "digits": Recipe(
        epochs=50,
        batch_size=32,
        learning_rate=3e-3,
        warmup_fraction=0.1,
        weight_decay=0.1,
        label_smoothing=0.1,
        beta_2=0.99,
        shift_rate=0.4,
        noise_std=20.0,
        jit_compile=False,  # 65 s against 82 s with the seconds that XLA takes to compile (two cores)
    ),
    # Jaegle et al. 2021, appendix C: 120 epochs; Inception crops, RandAugment of 4 layers. Label smoothing 0.1, MixUp
    # and CutMix 0.2 are of DeepMind's later recipe.
    "imagenet": Recipe(
        epochs=120,
        **_PAPER,
        crop_before_resizing=True,
        label_smoothing=0.1,
        rand_augment_layers=4,
        rand_augment_magnitude=5.0,
        mix_up=0.2,
        cut_mix=0.2,
    ),
    # Jaegle et al. 2021, section 4.2: 100 epochs; SpecAugment for spectrograms, colours, crops and flips for video.
    # Optimiser, rate and batch are not given: those of ImageNet, with its decay at the same shares of the run; the
    # strengths of SpecAugment and of the colours are ours, and that crops are of frames in the model's size: a film is
    # decoded to it, and kept so.
    "audioset": Recipe(
        epochs=100,
        **_PAPER,
        color_jitter=0.4,
        time_masks=2,
        frequency_masks=2,
    ),
    # Jaegle et al. 2021, appendix C: LAMB at a constant 1e-3, batches of 512, each point scaled by U(0.99, 1.01). The
    # number of epochs is not given: that of ImageNet; no weight decay is spoken of.
    "modelnet40": Recipe(
        epochs=120,
        batch_size=512,
        optimizer="lamb",
        learning_rate=1e-3,
        schedule="constant",
        no_decay=("bias", "gamma", "beta"),
        scale_range=0.01,
    ),
}
