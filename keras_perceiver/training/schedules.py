"""The learning rate of a run, step by step."""

import math

import keras
from keras import ops

from keras_perceiver._checks import require_one_of

PACKAGE = "keras_perceiver"
WARMUP_START = 0.01  # of the rate to which it rises

# By name: share of the run that is done, in [0, 1], and the settings of the schedule -> share of the learning rate.
SCHEDULES = {
    "constant": lambda done, flat_fraction, decay_at: ops.ones_like(done),
    "cosine": lambda done, flat_fraction, decay_at: _cosine(done),
    "flat_cosine": lambda done, flat_fraction, decay_at: _cosine((done - flat_fraction) / (1 - flat_fraction)),
    "step": lambda done, flat_fraction, decay_at: _steps(done, decay_at),
}


@keras.saving.register_keras_serializable(package=PACKAGE)
class RunSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate over a run of known length, which may rise linearly over its first steps.

    Args:
        kind: "constant"; "cosine", to zero; "flat_cosine", constant and then along a cosine to zero; or "step", a tenth
            of what it was at each of `decay_at`.
        learning_rate: at the top of the schedule.
        num_steps: of the whole run.
        warmup_steps: from a hundredth of the rate to the rate; the schedule begins behind them.
        flat_fraction: in [0, 1), share of the schedule before the cosine of "flat_cosine".
        decay_at: shares of the whole run, each in (0, 1), for "step".
    """

    def __init__(self, kind, learning_rate, num_steps, warmup_steps=0, flat_fraction=0.5, decay_at=()):
        require_one_of(SCHEDULES, kind=kind)
        self.kind = kind
        self.learning_rate = learning_rate
        self.num_steps = num_steps
        self.warmup_steps = warmup_steps
        self.flat_fraction = flat_fraction
        self.decay_at = tuple(decay_at)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        behind = self.num_steps - self.warmup_steps
        done = step / self.num_steps if self.kind == "step" else (step - self.warmup_steps) / max(1, behind)
        share = SCHEDULES[self.kind](ops.clip(done, 0.0, 1.0), self.flat_fraction, self.decay_at)
        if self.warmup_steps:
            rising = WARMUP_START + (1 - WARMUP_START) * step / self.warmup_steps
            share = ops.where(step < self.warmup_steps, rising, share)
        return self.learning_rate * share

    def get_config(self):
        return {
            "kind": self.kind,
            "learning_rate": self.learning_rate,
            "num_steps": self.num_steps,
            "warmup_steps": self.warmup_steps,
            "flat_fraction": self.flat_fraction,
            "decay_at": list(self.decay_at),
        }


def _cosine(done):
    """From 1 where nothing is done, or less than nothing, to 0."""
    return 0.5 * (1 + ops.cos(math.pi * ops.clip(done, 0.0, 1.0)))


def _steps(done, decay_at):
    """A tenth of what it was at each of these shares; the first step at or behind one has it."""
    passed = sum((ops.cast(done >= share - 1e-6, "float32") for share in decay_at), ops.zeros_like(done))
    return ops.power(0.1, passed)
