"""The pictures of a search."""

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from keras_perceiver.training.plots import TRAINING, VALIDATION, plain, save
from tuning.importance import positions
from tuning.results import COMPLETED, front, of_status, short

COLUMNS = 4


def draw(results, objective, shares, folder):
    """Draws `progress.png`, `hyperparameters.png`, `latency.png` and, where it is known, `importance.png`."""
    draw_progress(results, objective, folder / "progress.png")
    draw_hyperparameters(results, objective, folder / "hyperparameters.png")
    draw_latency(results, objective, folder / "latency.png")
    if shares:
        draw_importance(shares, folder / "importance.png")


def draw_progress(results, objective, path):
    """The score of each trial, and the best so far."""
    figure, axes = _figure(7, 3.6)
    scored = [(number, r.score) for number, r in enumerate(results, 1) if r.status == COMPLETED]
    best = []
    for _, score in scored:
        best.append(score if not best or objective.better_than(score, best[-1]) else best[-1])
    numbers = [number for number, _ in scored]
    axes.scatter(numbers, [score for _, score in scored], s=22, color=TRAINING, label="trial")
    axes.step(numbers, best, where="post", color=VALIDATION, label="best so far")
    others = [number for number, r in enumerate(results, 1) if r.status != COMPLETED]
    axes.scatter(
        others, [min(score for _, score in scored)] * len(others), marker="x", color="grey", label="not trained"
    )
    axes.set(xlabel="trial", ylabel=objective.name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    save(figure, path)


def draw_hyperparameters(results, objective, path):
    """Each hyper-parameter against the score."""
    completed = of_status(results, COMPLETED)
    names = list(completed[0].values)
    rows = math.ceil(len(names) / COLUMNS)
    figure = Figure(figsize=(3.2 * COLUMNS, 2.5 * rows), layout="constrained")
    for axes, name in zip(figure.subplots(rows, COLUMNS, squeeze=False).flat, names, strict=False):
        values = [r.values.get(name) for r in completed]
        places = positions(name, completed)
        axes.scatter(places, [r.score for r in completed], s=14, color=TRAINING, alpha=0.7, linewidths=0)
        axes.set_title(plain(name), fontsize=9)
        ticks = dict(sorted(zip(places, map(short, values), strict=True)))
        if len(ticks) <= 6 and (len(ticks) < len(values) or not isinstance(values[0], float)):
            axes.set_xticks(list(ticks), [plain(text) for text in ticks.values()], fontsize=8)
        elif min(places) > 0 and max(places) > 10 * min(places):
            axes.set_xscale("log")
            some = np.geomspace(min(places), max(places), 3)
            axes.set_xticks(some, [short(place) for place in some], fontsize=8)
            axes.xaxis.set_minor_formatter(NullFormatter())
        _clean(axes)
    for axes in figure.axes[len(names) :]:
        axes.remove()
    figure.supylabel(objective.name)
    save(figure, path)


def draw_latency(results, objective, path):
    """The score against the latency, and the trials that none beats in both."""
    figure, axes = _figure(6, 4)
    completed, best = of_status(results, COMPLETED), front(results, objective)
    axes.scatter([r.latency_ms for r in completed], [r.score for r in completed], s=22, color=TRAINING, label="trial")
    edge = {"marker": "o", "color": VALIDATION, "label": "Pareto front"}
    axes.step([r.latency_ms for r in best], [r.score for r in best], where="post", **edge)
    for result in best:
        axes.annotate(result.trial, (result.latency_ms, result.score), textcoords="offset points", xytext=(4, -10))
    axes.set(xlabel="milliseconds, one example on this machine", ylabel=objective.name)
    axes.legend(frameon=False)
    save(figure, path)


def draw_importance(shares, path):
    """What share of a forest's error hangs on each hyper-parameter."""
    names = [plain(name) for name in shares]
    figure, axes = _figure(6, 0.8 + 0.26 * len(names))
    axes.barh(names, list(shares.values()), color=TRAINING)
    axes.invert_yaxis()
    axes.set(xlabel="share of importance")
    save(figure, path)


def _figure(width, height):
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    _clean(axes)
    return figure, axes


def _clean(axes):
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
