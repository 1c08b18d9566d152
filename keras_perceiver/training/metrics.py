"""Figures of a classifier from its logits, computed by scikit-learn."""

import numpy as np
from sklearn import metrics as sklearn_metrics

from keras_perceiver.data.reports import some_of


def classification_metrics(logits, labels, class_names):
    """Accuracy, cross-entropy, per-class precision and recall, confusion matrix.

    Args:
        logits: (n, classes) float.
        labels: (n,) int.
        class_names: one string per class.

    Returns:
        A dictionary that JSON can hold; row i of `confusion_matrix` counts examples of class i by the
        class that they were taken for. With more than five classes it has `top_5_accuracy`.
    """
    predicted = logits.argmax(axis=1)
    classes = np.arange(len(class_names))
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0.0
    )
    return {
        "examples": len(labels),
        "accuracy": float(sklearn_metrics.accuracy_score(labels, predicted)),
        **({"top_5_accuracy": top_5_accuracy(logits, labels, classes)} if len(classes) > 5 else {}),
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


def top_5_accuracy(logits, labels, classes):
    """Share of the examples whose class is among the five that the model thinks likeliest."""
    return float(sklearn_metrics.top_k_accuracy_score(labels, logits, k=5, labels=classes))


def multi_label_metrics(logits, labels, class_names):
    """Average precision of each class and its mean over the classes (mAP), of examples with several labels.

    Args:
        logits: (n, classes) float.
        labels: (n, classes) of 0 and 1.
        class_names: one string per class.

    Returns:
        A dictionary that JSON can hold. A class without a positive example has no average precision: it is left out
        of the mean and named in `classes_without_positives`.
    """
    support = labels.sum(axis=0)
    precision = {
        name: float(sklearn_metrics.average_precision_score(labels[:, i], logits[:, i])) if support[i] else None
        for i, name in enumerate(class_names)
    }
    known = [value for value in precision.values() if value is not None]
    shifted = np.asarray(logits, np.float64)
    return {
        "examples": len(labels),
        "mean_average_precision": float(np.mean(known)) if known else None,
        "binary_cross_entropy": float(np.mean(np.logaddexp(0.0, shifted) - labels * shifted)),
        "classes": {
            name: {"average_precision": value, "examples": int(support[i])}
            for i, (name, value) in enumerate(precision.items())
        },
        "classes_without_positives": [name for name, value in precision.items() if value is None],
    }


def figure_of(metrics):
    """The figures of a run in words: its accuracy, or the mean average precision of several labels an example."""
    if "accuracy" in metrics:
        top_5 = f"top-5 {metrics['top_5_accuracy']:.2%}, " if "top_5_accuracy" in metrics else ""
        return f"accuracy {metrics['accuracy']:.2%}, {top_5}cross-entropy {metrics['cross_entropy']:.4f}"
    value, left_out = metrics["mean_average_precision"], metrics["classes_without_positives"]
    said = "none" if value is None else f"{value:.4f}"
    return f"mean average precision {said}" + (f" (without {some_of(left_out)}: no positives)" if left_out else "")


def softmax(logits):
    """Probabilities in float64 of (n, classes) logits; each row sums to one."""
    shifted = np.asarray(logits, np.float64)
    exponentials = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
