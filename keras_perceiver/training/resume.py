"""Checkpoints from which a killed run goes on with the same weights, data and history."""

import signal
import threading
import time
from typing import NamedTuple

import keras
import numpy as np
from rich.console import Console

from keras_perceiver._checks import require, require_above, require_positive
from keras_perceiver.training.state import State, named_values, newest_state, require_same_variables, write_state

MIN_SECONDS = 15.0  # between two checkpoints, where nothing else is asked for
MAX_SHARE = 0.02  # of the time of training that checkpoints may take, where nothing else is asked for


class Position(NamedTuple):
    """Where a run stands: epochs that are done, and steps of the next one."""

    epoch: int
    step: int

    def __str__(self):
        return f"after step {self.step} of epoch {self.epoch + 1}" if self.step else f"after epoch {self.epoch}"


START = Position(0, 0)


class Stopped(Exception):
    """A run was asked to stop by a signal and left a checkpoint, from which it can go on."""


class StopRequest:
    """Within its block, SIGTERM and SIGINT (Ctrl-C) ask a run to stop, in place of ending the process.

    A second signal ends it as it always does. Outside the main thread, where Python takes no signals, the block changes
    nothing.

    Attributes:
        name: of the signal once there was one; None before.
    """

    def __init__(self):
        self.name = None
        self._handlers = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._take) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_):
        for number, before in self._handlers.items():
            signal.signal(number, before)
        self._handlers = {}

    def _take(self, number, frame):
        self.name = signal.Signals(number).name
        self.__exit__()


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

    Args:
        folder: `pathlib.Path` where they are kept, the two newest ones.
        rows: list of dictionaries, the history so far; shared with the callback that appends to it, which must come
            before this one.
        every_steps: steps between two checkpoints, at least 1.
        every_minutes: minutes between two checkpoints, above 0.
        stop: `StopRequest` of the block in which the run is; None for a run that signals end at once.
        console: `rich.console.Console` for what is to be said; None for a new one.

    Raises:
        InputError: where arguments are illegal. In `fit`, where a checkpoint cannot be written, and where weights are
            not finite: what was kept before stays.
        Stopped: in `fit`, where a signal has asked for it.
    """

    def __init__(self, folder, rows=None, *, every_steps=None, every_minutes=None, stop=None, console=None):
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
        self.console = console or Console()
        self._resumed = START
        self._epoch = 0
        self._metrics = []
        self._cost = 0.0
        self._steps = 0
        self._last = time.monotonic()

    def restore(self, model):
        """Puts the newest state that can be read into a compiled model and the history.

        Returns:
            The `Position` from which `fit` goes on: (0, 0) where there is no checkpoint.

        Raises:
            InputError: where the checkpoint is of another model; with what differs.
        """
        state = newest_state(self.folder, lambda text: self.console.print(text, markup=False, soft_wrap=True))
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
        if self.stop.name:
            raise Stopped(
                f"stopped by {self.stop.name} in the validation of epoch {self._epoch + 1}: the same command goes on "
                "from the checkpoint before it"
            )

    def on_epoch_end(self, epoch, logs=None):
        is_last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        self._save_if_due(Position(epoch + 1, 0), is_last=is_last)

    def _save_if_due(self, position, is_last=False):
        if self.stop.name or is_last or self._is_due():
            self._save(position)
        if self.stop.name:
            raise Stopped(f"stopped by {self.stop.name} {position}: the same command goes on from there")

    def _is_due(self):
        passed = time.monotonic() - self._last
        if self.every_steps is not None:
            return self._steps >= self.every_steps
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
        broken = [name for name, value in groups["model"] if not np.isfinite(value.astype(np.float32)).all()]
        require(
            not broken,
            f"The weights must stay finite. There are others {position}, in "
            f"{', '.join(broken[:3])}; checkpoints from before are kept",
            repair="Try a lower `learning_rate`, or clip the gradients.",
        )
        write_state(self.folder, State(*position, self.rows, groups))
        self._last, self._steps = time.monotonic(), 0
        self._cost = self._last - began

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
