"""The end of a run whose loss is no number any more."""

import math

import keras

from keras_perceiver._checks import InputError, printable

NAMED = 8  # examples that a message names


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Ends a run at the first step whose loss is NaN or infinite, and says which examples were in its batch.

    Put it before `Checkpoints`: then no state is kept from behind that step.

    Args:
        examples_of_step: function `(epoch, step) -> names of the examples` of that batch, both counted from 0; None
            where they are not known.

    Raises:
        InputError: in `fit`.
    """

    def __init__(self, examples_of_step=None):
        super().__init__()
        self.examples_of_step = examples_of_step

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if math.isfinite(logs["loss"]):
            return
        first = batch + 1 - self.model.steps_per_execution
        steps = f"step {batch + 1}" if first == batch else f"one of the steps {first + 1} to {batch + 1}"
        names = ""
        if self.examples_of_step is not None:
            found = [name for step in range(first, batch + 1) for name in self.examples_of_step(self._epoch, step)]
            more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
            names = f" on the examples {', '.join(printable(name) for name in found[:NAMED])}{more}"
        raise InputError(
            f"The loss must stay finite. It is {logs['loss']} after {steps} of epoch {self._epoch + 1}{names}. "
            "Checkpoints from before are kept. Try a lower `learning_rate`, clip the gradients, or look at them."
        )
