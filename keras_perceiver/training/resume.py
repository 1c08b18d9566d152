"""Checkpoints from which a killed run goes on with the same weights, data and history."""

import time
from typing import NamedTuple

import keras
import numpy as np
from rich.console import Console

from keras_perceiver._checks import require, require_above, require_positive
from keras_perceiver.training.distribution import Poll, Workers
from keras_perceiver.training.state import (
    State,
    named_values,
    newest_state,
    packed,
    require_same_variables,
    unpacked,
    write_state,
)
from keras_perceiver.training.stopping import Stopped, StopRequest

MIN_SECONDS = 15.0  # between two checkpoints, where nothing else is asked for
MAX_SHARE = 0.02  # of the time of training that checkpoints may take, where nothing else is asked for


class Position(NamedTuple):
    """Where a run stands: epochs that are done, and steps of the next one."""

    epoch: int
    step: int

    def __str__(self):
        return f"after step {self.step} of epoch {self.epoch + 1}" if self.step else f"after epoch {self.epoch}"


START = Position(0, 0)


class Checkpoints(keras.callbacks.Callback):
    """Keeps the newest states of a run on disk, and puts a run back to where it was.

    A state is everything that decides how a run goes on: weights, state of random layers, optimiser, averages of the
    weights, loss scale, metrics within the epoch, history, epoch and step. With data that follow from the position, as
    those of `training_dataset` do, a run that was killed at any moment ends with the same weights and the same history,
    to the bit, as one that was not::

        with StopRequest() as stop:
            checkpoints = Checkpoints(Path("checkpoints"), stop=stop)
            position = checkpoints.restore(model)
            data = training_dataset(.., first_epoch=position.epoch, first_step=position.step)
            model.fit(data, initial_epoch=position.epoch, steps_per_epoch=.., epochs=.., callbacks=[checkpoints])

    In the epoch in which it goes on, `fit` counts the steps that are done without taking them: callbacks see them pass,
    with the metrics as they were.

    Where neither `every_steps` nor `every_minutes` is given, a checkpoint is taken every 15 seconds, or less often
    where checkpoints would take more than 2 % of the time.

    Of several workers the chief alone reads and writes files; the others get from it what they need, and all of them
    take a checkpoint, or stop, at the same step.

    Args:
        folder: `pathlib.Path` where they are kept, the two newest ones.
        rows: list of dictionaries, the history so far; shared with the callback that appends to it, which must come
            before this one.
        every_steps: steps between two checkpoints, at least 1.
        every_minutes: minutes between two checkpoints, above 0.
        stop: `StopRequest` of the block in which the run is; None for a run that signals end at once.
        workers: `Workers` of the run; None for one process.
        console: `rich.console.Console` for what is to be said; None for a new one.

    Raises:
        InputError: where arguments are illegal. In `fit`, where a checkpoint cannot be written, and where weights are
            not finite: what was kept before stays.
        Stopped: in `fit`, where a signal has asked for it.
    """

    def __init__(
        self, folder, rows=None, *, every_steps=None, every_minutes=None, stop=None, workers=None, console=None
    ):
        super().__init__()
        if every_steps is not None:
            require_positive(checkpoint_steps=every_steps)
        if every_minutes is not None:
            require_above(0, checkpoint_minutes=every_minutes)
        require(
            every_steps is None or every_minutes is None,
            "Only one of `checkpoint_steps` and `checkpoint_minutes` may be given",
            checkpoint_steps=every_steps,
            checkpoint_minutes=every_minutes,
        )
        self.folder = folder
        self.rows = [] if rows is None else rows
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self.stop = stop or StopRequest()
        self.workers = workers or Workers()
        self.console = console or Console()
        self._resumed = START
        self._epoch = 0
        self._metrics = []
        self._cost = 0.0
        self._steps = 0
        self._last = time.monotonic()
        self._poll = Poll(self.workers)

    def restore(self, model):
        """Puts the newest state that can be read into a compiled model and the history.

        Returns:
            The `Position` from which `fit` goes on: (0, 0) where there is no checkpoint.

        Raises:
            InputError: where the checkpoint is of another model; with what differs.
        """
        state = shared_state(
            self.workers,
            lambda: newest_state(self.folder, lambda text: self.console.print(text, markup=False, soft_wrap=True)),
        )
        if state is None:
            return self._resumed
        model.optimizer.build(model.trainable_variables)
        self._assign(state.groups["model"], model.variables)
        self._assign(state.groups["optimizer"], model.optimizer.variables)
        self._metrics = state.groups["metrics"]
        self.rows[:] = state.rows
        self._resumed = Position(state.epoch, state.step)
        return self._resumed

    def on_train_begin(self, logs=None):
        self._last = time.monotonic()
        passed = self._resumed.step // self.model.steps_per_execution
        if passed:
            self.model.train_function = self._passing_over(passed, self.model.train_function)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        if self._resumed.step and epoch == self._resumed.epoch:  # `fit` has just reset them
            self._assign(self._metrics, self.model.metrics_variables)

    def on_train_batch_end(self, batch, logs=None):
        position = Position(self._epoch, batch + 1)
        if position <= self._resumed:
            return
        self._steps += self.model.steps_per_execution
        self._save_if_due(position)

    def on_test_batch_end(self, batch, logs=None):
        if self.stop.name and self.workers.count == 1:  # several stop together, behind the epoch
            raise Stopped(
                f"stopped by {self.stop.name} in the validation of epoch {self._epoch + 1}: the same command goes on "
                "from the checkpoint before it"
            )

    def on_epoch_end(self, epoch, logs=None):
        is_last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        self._save_if_due(Position(epoch + 1, 0), is_last=is_last)

    def _save_if_due(self, position, is_last=False):
        stops, due = self._poll(time.monotonic(), bool(self.stop.name), self._is_due_by_time(), now=position.step == 0)
        if stops or due or is_last or self._is_due_by_steps():
            self._save(position)
        if stops:
            by = self.stop.name or "a signal to another worker"
            raise Stopped(f"stopped by {by} {position}: the same command goes on from there")

    def _is_due_by_steps(self):
        return self.every_steps is not None and self._steps >= self.every_steps

    def _is_due_by_time(self):
        """Whether it is time, by the chief's clock."""
        if self.every_steps is not None or not self.workers.is_chief:
            return False
        passed = time.monotonic() - self._last
        if self.every_minutes is not None:
            return passed >= 60 * self.every_minutes
        return passed >= max(MIN_SECONDS, self._cost / MAX_SHARE)

    def _save(self, position):
        began = time.monotonic()
        groups = {
            "model": named_values(self.model.variables),
            "optimizer": named_values(self.model.optimizer.variables),
            "metrics": named_values(self.model.metrics_variables),
        }
        self.workers.by_chief(lambda: self._write(State(*position, self.rows, groups)))
        self._last, self._steps = time.monotonic(), 0
        self._cost = self._last - began

    def _write(self, state):
        broken = [name for name, value in state.groups["model"] if not np.isfinite(value.astype(np.float32)).all()]
        require(
            not broken,
            f"The weights must stay finite. There are others {Position(state.epoch, state.step)}, in "
            f"{', '.join(broken[:3])}; checkpoints from before are kept",
            repair="Try a lower `learning_rate`, or clip the gradients.",
        )
        write_state(self.folder, state)

    def _assign(self, values, variables):
        require_same_variables(self.folder, values, named_values(variables))
        for variable, (_, value) in zip(variables, values, strict=True):
            variable.assign(value)

    def _passing_over(self, count, train_function):
        """A function that does nothing `count` times and then gives its place back to `train_function`."""
        left = iter(range(count - 1, -1, -1))

        def passing(iterator):
            if next(left) == 0:
                self.model.train_function = train_function
            return self.model.get_metrics_result()

        return passing


def shared_state(workers, read):
    """The `State` or None that a function returns on the chief, on all workers."""
    if workers.count == 1:
        return read()
    found = []
    if not workers.by_chief(lambda: found.append(read()) or found[0] is not None):
        return None
    content = workers.from_chief(packed(found[0]) if found else None)
    return found[0] if found else unpacked(content)
