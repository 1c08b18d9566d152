"""The epoch that was best on validation: kept, and waited for."""

import math

import keras

from keras_perceiver._checks import require
from keras_perceiver.training.distribution import Workers
from keras_perceiver.training.resume import shared_state
from keras_perceiver.training.state import State, named_values, newest_state, write_state

KEPT = ("last", "best")


class BestEpoch(keras.callbacks.Callback):
    """Keeps the weights of the best epoch, and ends a run that has not become better for a while.

    The best epoch is the first one with the highest accuracy (of several labels an example, `mean_average_precision`)
    on validation; of equal ones, and where there is neither, the one with the lower loss. It follows from the history
    alone, so that a run that was killed and goes on decides alike.

    Put it before `SwapEMAWeights`, so that it sees what was validated, and before `Checkpoints`.

    Args:
        folder: `pathlib.Path` where weights are kept.
        rows: list of dictionaries, the history so far; shared with the callback that appends to it, which must come
            before this one.
        keep: whether weights are kept.
        patience: epochs without a better one after which the run ends; None for never.
        workers: `Workers` of the run, of which the chief keeps the weights; None for one process.
    """

    def __init__(self, folder, rows, *, keep=False, patience=None, workers=None):
        super().__init__()
        self.folder = folder
        self.rows = rows
        self.keep = keep
        self.patience = patience
        self.workers = workers or Workers()

    @property
    def is_over(self):
        """Whether the history so far is one after which the run ends."""
        scores = [_score(row, "val_") for row in self.rows]
        return self.patience is not None and bool(scores) and len(scores) - 1 - _best(scores) >= self.patience

    def restore(self, model):
        """Puts the weights of the best epoch into the model, and returns its number, counted from 1."""
        state = shared_state(self.workers, lambda: newest_state(self.folder, lambda text: None))
        require(
            state is not None,
            f"The best weights in `{self.folder}` must be readable",
            repair="Remove the folder of the checkpoints to train again.",
        )
        for variable, (_, value) in zip(model.variables, state.groups["model"], strict=True):
            variable.assign(value)
        return state.epoch

    def on_test_end(self, logs=None):
        if self.keep and all(_score(logs) > _score(row, "val_") for row in self.rows):
            epoch = len(self.rows) + 1
            state = State(epoch, 0, [], {"model": named_values(self.model.variables)})
            self.workers.by_chief(lambda: write_state(self.folder, state) and None)

    def on_epoch_end(self, epoch, logs=None):
        if self.is_over:
            self.model.stop_training = True


def _score(logs, prefix=""):
    """What is compared: figures of a validation, the greater the better; NaN is less than any."""
    figure = logs.get(f"{prefix}accuracy", logs.get(f"{prefix}mean_average_precision", 0.0))
    return tuple(-math.inf if math.isnan(value) else value for value in (figure, -logs[f"{prefix}loss"]))


def _best(scores):
    """Index of the first of the greatest scores."""
    return scores.index(max(scores))
