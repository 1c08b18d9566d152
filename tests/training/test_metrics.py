"""Figures of a classifier, against a case worked out by hand."""

import numpy as np
import pytest

from keras_perceiver.training.metrics import classification_metrics, softmax

# Five examples of three classes: the first a is taken for b, everything else is right; c never occurs.
LOGITS = np.log([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.25, 0.5, 0.25], [0.6, 0.2, 0.2]])
LABELS = np.array([0, 0, 1, 1, 0])


def test_metrics_of_a_case_worked_out_by_hand():
    metrics = classification_metrics(LOGITS, LABELS, ["a", "b", "c"])
    assert metrics["accuracy"] == pytest.approx(4 / 5)
    assert metrics["examples"] == 5
    assert metrics["confusion_matrix"] == [[2, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert metrics["classes"]["a"] == {
        "precision": 1.0,
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(0.8),
        "examples": 3,
    }
    assert metrics["classes"]["b"] == {
        "precision": pytest.approx(2 / 3),
        "recall": 1.0,
        "f1": pytest.approx(0.8),
        "examples": 2,
    }
    assert metrics["classes"]["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "examples": 0}
    expected = -np.mean(np.log([0.2, 0.5, 0.8, 0.5, 0.6]))
    assert metrics["cross_entropy"] == pytest.approx(expected)


def test_top_5_is_told_where_there_are_more_classes_than_five():
    logits = np.tile(np.arange(7.0), (3, 1))
    metrics = classification_metrics(logits, np.array([6, 2, 1]), list("abcdefg"))
    assert metrics["top_5_accuracy"] == pytest.approx(2 / 3)
    assert metrics["accuracy"] == pytest.approx(1 / 3)
    assert "top_5_accuracy" not in classification_metrics(logits[:, :5], np.array([4, 2, 1]), list("abcde"))


def test_softmax_does_not_overflow():
    np.testing.assert_allclose(softmax(np.array([[1e4, 1e4 - np.log(3), -1e4]])), [[0.75, 0.25, 0.0]])
