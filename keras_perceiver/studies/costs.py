"""What an arm costs while it trains: time and memory, written beside the run's own files."""

import json
import time

import keras

from keras_perceiver._files import write_atomically
from keras_perceiver.training.memory import PeakMemory

COSTS = "costs.json"


class Costs(keras.callbacks.Callback):
    """Keeps `costs.json` in the folder of a run: seconds of each epoch, and the most memory above the idle process.

    It is written at the end of each epoch, and so is there before the run is finished. A run that goes on keeps what
    its earlier processes have measured; of an epoch within which it goes on the seconds are those of the steps that
    were left, times what share of all they are.

    Args:
        path: of the file.
        steps: of an epoch.
    """

    def __init__(self, path, steps):
        super().__init__()
        self.path, self.steps = path, steps

    def on_train_begin(self, logs=None):
        self.memory = PeakMemory()

    def on_epoch_begin(self, epoch, logs=None):
        self._began, self._done = time.monotonic(), 0

    def on_train_batch_end(self, batch, logs=None):
        self._done += self.model.steps_per_execution

    def on_epoch_end(self, epoch, logs=None):
        seconds, known = (time.monotonic() - self._began) * self.steps / self._done, read_costs(self.path)
        peaks = [p for p in (known["peak_bytes"], self.memory.measure()) if p is not None]
        costs = {
            "epoch_seconds": [*known["epoch_seconds"][:epoch], seconds],
            "peak_bytes": max(peaks) if peaks else None,
        }
        write_atomically(self.path, json.dumps(costs) + "\n")


def read_costs(path):
    """What `Costs` has written so far."""
    return json.loads(path.read_text()) if path.is_file() else {"epoch_seconds": [], "peak_bytes": None}
