"""The best epoch on validation: which one it is, that it is kept, and when a run has waited long enough."""

import keras
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from keras_perceiver._checks import InputError
from keras_perceiver.training import BestEpoch, History, MeanAveragePrecision, Recipe
from keras_perceiver.training.resume import Position
from keras_perceiver.training.train import fit
from tests.training.test_resume import checkpoints, network, source


def rows(*figures):
    return [{"epoch": i + 1, "val_accuracy": a, "val_loss": b} for i, (a, b) in enumerate(figures)]


@pytest.mark.parametrize(
    ("figures", "patience", "is_over"),
    [
        ([], 1, False),
        ([(0.5, 1.0)], 1, False),
        ([(0.5, 1.0), (0.5, 1.0)], 1, True),
        ([(0.5, 1.0), (0.5, 0.9)], 1, False),  # as accurate, with less loss
        ([(0.5, 1.0), (0.4, 0.1), (0.6, 2.0), (0.1, 1.0)], 2, False),
        ([(0.5, 1.0), (0.4, 0.1), (0.3, 2.0)], 2, True),
        ([(0.5, float("nan")), (0.5, 1.0)], 1, False),
        ([(0.5, 1.0)] * 9, None, False),
    ],
)
def test_a_run_is_over_when_no_epoch_was_better_for_a_while(tmp_path, figures, patience, is_over):
    assert BestEpoch(tmp_path, rows(*figures), patience=patience).is_over is is_over


class Scripted(keras.callbacks.Callback):
    """Makes the validation of each epoch say what is written here, and remembers the weights that were validated."""

    def __init__(self, rows, accuracies):
        super().__init__()
        self.rows, self.accuracies, self.weights = rows, accuracies, []

    def on_test_end(self, logs=None):
        self.weights.append(self.model.get_weights())
        logs |= {"accuracy": self.accuracies[len(self.rows)], "loss": 1.0}

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append({"val_accuracy": self.accuracies[epoch], "val_loss": 1.0})


def test_the_best_epoch_is_kept_and_the_run_ends_also_where_it_was_killed_behind_that(tmp_path):
    """With averaged weights: what is kept are the averages, which were validated."""
    recipe = Recipe(9, 4, 0.1, jit_compile=False, ema_momentum=0.5)
    model = network(recipe=recipe)
    best = BestEpoch(tmp_path / "best", [], keep=True, patience=2)
    script = Scripted(best.rows, [0.1, 0.7, 0.7, 0.2] + [0.9] * 5)
    keeper = checkpoints(tmp_path, rows=best.rows, every_steps=1000)
    fit(model, source(), recipe, 0, callbacks=[script, best, keeper])
    assert len(best.rows) == 4
    assert best.restore(model) == 2
    for ours, validated, last in zip(model.get_weights(), script.weights[1], script.weights[3], strict=True):
        np.testing.assert_array_equal(ours, validated)
        assert not np.array_equal(ours, last)
    again = BestEpoch(tmp_path / "best", [], keep=True, patience=2)
    assert checkpoints(tmp_path, rows=again.rows).restore(network(recipe=recipe)) == Position(4, 0)
    assert again.is_over


def test_best_weights_that_cannot_be_read_are_no_weights(tmp_path):
    with pytest.raises(InputError, match="must be readable"):
        BestEpoch(tmp_path, []).restore(network())


def test_exact_precision_is_watched_in_plain_keras_and_is_nan_where_a_logit_is_not_finite(tmp_path):
    """Before the best epoch and the averaged weights: the figure is that of the weights that are kept."""
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(24, 3)).astype("float32"), rng.integers(0, 2, (24, 2))
    model = keras.Sequential([keras.layers.Dense(2)])
    optimizer = keras.optimizers.SGD(0.3, use_ema=True, ema_momentum=0.6, ema_overwrite_frequency=None)
    model.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True))
    rows = []
    best = BestEpoch(tmp_path, rows, keep=True)
    precision, history = MeanAveragePrecision(x, labels), History(rows, lambda rows: None)
    callbacks = [precision, history, best, keras.callbacks.SwapEMAWeights()]
    model.fit(x, labels, batch_size=4, epochs=4, validation_data=(x, labels), callbacks=callbacks, verbose=0)
    figures = [row["val_mean_average_precision"] for row in rows]
    assert len(set(figures)) > 1
    assert best.restore(model) == 1 + max(range(4), key=lambda i: (figures[i], -rows[i]["val_loss"]))
    assert average_precision_score(labels, model.predict(x, verbose=0)) == pytest.approx(max(figures), abs=1e-6)
    model.layers[0].bias.assign([float("nan"), 0.0])
    precision.on_test_end(logs := {})
    assert np.isnan(logs["mean_average_precision"])


def test_without_accuracy_the_loss_decides(tmp_path):
    losses = [{"val_loss": 2.0}, {"val_loss": 1.0}, {"val_loss": 3.0}]
    assert not BestEpoch(tmp_path, losses, patience=2).is_over
    assert BestEpoch(tmp_path, losses, patience=1).is_over
