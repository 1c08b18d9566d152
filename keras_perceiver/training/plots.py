"""The pictures of a run."""

import warnings

import numpy as np
from matplotlib.figure import Figure  # without pyplot: no display, no global state
from matplotlib.ticker import MaxNLocator

from keras_perceiver._checks import printable
from keras_perceiver._files import written

MAX_INCHES, MAX_NAMED_CLASSES = 30.0, 70  # of a confusion matrix; one of more classes shows colours alone
TRAINING, VALIDATION = "#4878a8", "#d1603d"


def plot_curves(rows, path):
    """Draws loss and accuracy (mean average precision of several labels) over the epochs."""
    figures = "loss", "accuracy" if "accuracy" in rows[0] else "mean_average_precision"
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), figures, strict=True):
        for key, label, color in ((name, "training", TRAINING), (f"val_{name}", "validation", VALIDATION)):
            if key in rows[0]:
                axes.plot(epochs, [row[key] for row in rows], label=label, color=color, linewidth=1.5)
        axes.set(xlabel="epoch", title=name.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    save(figure, path)


def plot_confusion_matrix(matrix, class_names, accuracy, path):
    """Draws how many examples of each class (rows) were taken for which class (columns)."""
    matrix = np.asarray(matrix)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    size = min(2.2 + 0.38 * len(class_names), MAX_INCHES)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(class_names))
    has_room = len(class_names) <= MAX_NAMED_CLASSES
    if has_room:
        names = [plain(name) for name in class_names]
        axes.set_xticks(ticks, names, rotation=0 if max(map(len, names)) < 3 else 90)
        axes.set_yticks(ticks, names)
    axes.set(xlabel="predicted", ylabel="true", title=f"{accuracy:.2%} of {matrix.sum()} examples")
    for row, column in zip(*np.nonzero(matrix), strict=True) if has_room else ():
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=color, fontsize=9)
    save(figure, path)


def plain(text):
    """Text of strangers that matplotlib draws as it is: a dollar would begin a formula."""
    return printable(text).replace("$", r"\$")


def save(figure, path):
    """Writes a PNG beside its place and renames it into it; an `InputError` where it cannot be written."""
    temporary = path.with_name(path.name + ".tmp")
    with written(path, temporary), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a box stands for it
        figure.savefig(temporary, format="png", dpi=150)
