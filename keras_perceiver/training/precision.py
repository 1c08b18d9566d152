"""Exact mean average precision while a model trains."""

import keras
import numpy as np

from keras_perceiver.training.metrics import multi_label_metrics


class MeanAveragePrecision(keras.callbacks.Callback):
    """Adds `mean_average_precision` to the figures of each validation of a model of several labels an example.

    That of scikit-learn, mean over the classes that have positives, where Keras' area under precision and recall is one
    of 200 thresholds. The logits of the whole split are predicted once more for it. NaN where a logit is not finite.

    Put it before whoever is to see it, and before `SwapEMAWeights`.

    Args:
        data: the validation split as `model.predict` takes it, in order and not repeated.
        labels: (n, classes) of 0 and 1.
        steps: batches of `data`; None for all.
    """

    def __init__(self, data, labels, *, steps=None):
        super().__init__()
        self.data = data
        self.labels = np.asarray(labels)
        self.steps = steps

    def on_test_end(self, logs=None):
        logits = self.model.predict(self.data, steps=self.steps, verbose=0)
        value = None
        if np.isfinite(logits).all():
            names = range(self.labels.shape[1])
            value = multi_label_metrics(logits, self.labels, names)["mean_average_precision"]
        self._value = logs["mean_average_precision"] = float("nan") if value is None else value

    def on_epoch_end(self, epoch, logs=None):
        logs["val_mean_average_precision"] = self._value  # those of an epoch are another dictionary
