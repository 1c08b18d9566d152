"""The pictures of a run."""

import os

import numpy as np
from matplotlib.figure import Figure  # without pyplot: no display, no global state
from matplotlib.ticker import MaxNLocator

TRAINING, VALIDATION = "#4878a8", "#d1603d"


def plot_curves(rows, path):
    """Draws loss and accuracy of training and validation over the epochs."""
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label, color in ((name, "training", TRAINING), (f"val_{name}", "validation", VALIDATION)):
            if key in rows[0]:
                axes.plot(epochs, [row[key] for row in rows], label=label, color=color, linewidth=1.5)
        axes.set(xlabel="epoch", title=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    save(figure, path)


def plot_confusion_matrix(matrix, class_names, accuracy, path):
    """Draws how many examples of each class (rows) were taken for which class (columns)."""
    matrix = np.asarray(matrix)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    size = 2.2 + 0.38 * len(class_names)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(class_names))
    axes.set_xticks(ticks, class_names, rotation=0 if max(map(len, class_names)) < 3 else 90)
    axes.set_yticks(ticks, class_names)
    axes.set(xlabel="predicted", ylabel="true", title=f"{accuracy:.2%} of {matrix.sum()} examples")
    for row, column in zip(*np.nonzero(matrix), strict=True):
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=color, fontsize=9)
    save(figure, path)


def save(figure, path):
    """Writes a PNG beside its place and renames it into it."""
    temporary = path.with_name(path.name + ".tmp")
    figure.savefig(temporary, format="png", dpi=150)
    os.replace(temporary, path)
