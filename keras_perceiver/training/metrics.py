"""Figures of a classifier from its logits, computed by scikit-learn."""

import numpy as np
from sklearn import metrics as sklearn_metrics


def classification_metrics(logits, labels, class_names):
    """Accuracy, cross-entropy, per-class precision and recall, confusion matrix.

    Args:
        logits: (n, classes) float.
        labels: (n,) int.
        class_names: one string per class.

    Returns:
        A dictionary that JSON can hold; row i of `confusion_matrix` counts examples of class i by the
        class that they were taken for.
    """
    predicted = logits.argmax(axis=1)
    classes = np.arange(len(class_names))
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0.0
    )
    return {
        "examples": len(labels),
        "accuracy": float(sklearn_metrics.accuracy_score(labels, predicted)),
        "cross_entropy": float(sklearn_metrics.log_loss(labels, softmax(logits), labels=classes)),
        "classes": {
            name: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "examples": int(support[i]),
            }
            for i, name in enumerate(class_names)
        },
        "confusion_matrix": sklearn_metrics.confusion_matrix(labels, predicted, labels=classes).tolist(),
    }


def softmax(logits):
    """Probabilities in float64 of (n, classes) logits; each row sums to one."""
    shifted = np.asarray(logits, np.float64)
    exponentials = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
