"""Checkpoints from which a killed run goes on with the same weights, data and history."""

import json
import os
import shutil
import time

import keras

from keras_perceiver._checks import InputError


class Checkpoints(keras.callbacks.Callback):
    """Keeps the newest state of a run on disk: weights, optimiser, epoch and history.

    A checkpoint is a folder `<epoch>/`, written beside its place and renamed into it, so that one that
    can be seen is whole. It is taken at the end of an epoch, at most every `interval` seconds.

    Args:
        folder: `pathlib.Path` where checkpoints are kept.
        rows: list of dictionaries, the history so far; shared with the callback that appends to it.
        interval: seconds between two checkpoints.
    """

    def __init__(self, folder, rows, interval):
        super().__init__()
        self.folder = folder
        self.rows = rows
        self.interval = interval
        self._last = time.monotonic()

    def restore(self, model):
        """Puts the newest checkpoint into a compiled model and the history; returns the epochs that are done."""
        newest = self._newest()
        if newest is None:
            return 0
        try:
            model.load_weights(newest / "state.weights.h5")
            self.rows[:] = json.loads((newest / "history.json").read_text())
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"The checkpoint `{newest}` must be readable; remove its folder to begin again. {error}"
            ) from error
        return int(newest.name)

    def on_epoch_end(self, epoch, logs=None):
        if time.monotonic() - self._last < self.interval:
            return
        previous = self._newest()
        temporary = self.folder / "unfinished"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        self.model.save_weights(temporary / "state.weights.h5")
        (temporary / "history.json").write_text(json.dumps(self.rows))
        os.replace(temporary, self.folder / f"{epoch + 1:06d}")
        if previous is not None:
            shutil.rmtree(previous)
        self._last = time.monotonic()

    def _newest(self):
        whole = sorted(p for p in self.folder.glob("*") if p.name.isdigit())
        return whole[-1] if whole else None
