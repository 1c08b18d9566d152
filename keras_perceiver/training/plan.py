"""What a run would cost, before it is begun."""

import itertools
import statistics
import time
from dataclasses import dataclass

import keras

from keras_perceiver.data import steps_per_epoch
from keras_perceiver.training.feeding import file_errors, training_data
from keras_perceiver.training.memory import PeakMemory

TIMED_STEPS = 10


@dataclass(frozen=True)
class Plan:
    """Figures of a run.

    Attributes:
        parameters, trainable_parameters: of the model.
        flops: of a forward pass of one example.
        epochs, steps_per_epoch, batch_size: of the run.
        first_step_seconds: with tracing and compiling.
        step_seconds: median of the steps behind it.
        peak_bytes: the most memory above the idle process, see `PeakMemory`; None where the system does not tell.
    """

    parameters: int
    trainable_parameters: int
    flops: int
    epochs: int
    steps_per_epoch: int
    batch_size: int
    first_step_seconds: float
    step_seconds: float
    peak_bytes: int | None

    @property
    def seconds(self):
        """Of all training steps, without validation."""
        return self.first_step_seconds + self.step_seconds * (self.epochs * self.steps_per_epoch - 1)

    def lines(self):
        """The plan for people."""
        minutes, seconds = divmod(round(self.seconds), 60)
        memory = (
            "not known on this system" if self.peak_bytes is None else f"{self.peak_bytes / 1e6:,.0f} MB for a step"
        )
        return (
            f"parameters   {self.parameters:,}, of which {self.trainable_parameters:,} are trained",
            f"FLOPs        {self.flops:,} for a forward pass of one example",
            f"steps        {self.epochs:,} epochs of {self.steps_per_epoch:,} steps of {self.batch_size:,} examples",
            f"memory       {memory}, above the idle process",
            f"time         {self.first_step_seconds:.1f} s for the first step, then {self.step_seconds:.3g} s a step: "
            f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d} without validation",
        )


class _Clock(keras.callbacks.Callback):
    """When steps ended, beginning with the start of the first one."""

    def on_train_begin(self, logs=None):
        self.times = [time.perf_counter()]

    def on_train_batch_end(self, batch, logs=None):
        self.times.append(time.perf_counter())


def plan_run(model, source, recipe, seed, *, preprocess=None, console=None):
    """Trains a compiled model for a few steps, and says what the run would cost.

    Args:
        model: a compiled classifier, which is not good for the run afterwards.
        source, recipe, seed, preprocess, console: see `training_data`.

    Returns:
        `Plan`.
    """
    from keras_perceiver.inspection import describe_model  # which looks at data by means of this package

    steps = steps_per_epoch(source.splits["train"], recipe.batch_size)
    data = training_data(source, recipe, seed, preprocess=preprocess, console=console)
    description, clock = describe_model(model), _Clock()
    per_call = recipe.steps_per_execution
    memory = PeakMemory()
    with file_errors():
        model.fit(
            data, steps_per_epoch=min(steps, (1 + TIMED_STEPS) * per_call), callbacks=[clock], shuffle=False, verbose=0
        )
    first, *others = (end - begin for begin, end in itertools.pairwise(clock.times))
    return Plan(
        description.parameters,
        description.trainable_parameters,
        description.flops,
        recipe.epochs,
        steps,
        recipe.batch_size,
        first,
        statistics.median(others or [first]) / per_call,
        memory.measure(),
    )
