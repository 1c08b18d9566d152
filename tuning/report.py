"""The result of a search for people, for spreadsheets and for `keras-perceiver train --config`."""

import csv
import io
import json

import keras_tuner
from rich import box
from rich.table import Table
from rich.text import Text

from keras_perceiver._checks import printable
from keras_perceiver._files import write_atomically
from keras_perceiver.studies.report import markdown_table
from tuning.importance import importance
from tuning.plots import draw
from tuning.results import COMPLETED, FAILED, OVER_LIMIT, UNFINISHED, of_status, ranked, short

SHOWN = 10  # trials in the tables for people
FACTS = ("trial", "status", "score", "epoch", "parameters", "flops", "latency_ms", "seconds", "worker", "reason")


def write_report(folder, results, objective, hyper, given, about):
    """Writes `trials.csv` and, where a trial is completed, `best.json`, `default.json`, `report.md` and the pictures.

    Args:
        folder: `pathlib.Path` of the search.
        results: list of `TrialResult`.
        objective: `keras_tuner.Objective`.
        hyper: `HyperPerceiver`.
        given: arguments of `train` that were given to the search.
        about: sentences on the search.
    """
    write_atomically(folder / "trials.csv", _csv(results))
    best = ranked(results, objective)
    if not best:
        return
    for name, settings in (("default", _set(given)), ("best", best_settings(best[0], hyper, given))):
        write_atomically(folder / f"{name}.json", json.dumps(settings, indent=2) + "\n")
    shares = importance(results)
    draw(results, objective, shares, folder)
    write_atomically(folder / "report.md", _markdown(results, objective, hyper, shares, about))


def best_settings(result, hyper, given):
    """The arguments of `train` at the point of a trial, as `keras-perceiver train --config` takes them."""
    model, recipe = hyper.overrides(point_of(result, hyper))
    changed = {"model": {**given.get("model", {}), **model}, "recipe": {**given.get("recipe", {}), **recipe}}
    return _set({**given, **{name: _set(settings) for name, settings in changed.items()}})


def _set(settings):
    return {name: value for name, value in settings.items() if value not in (None, {})}


def point_of(result, hyper):
    """`{name: value}` of a trial, as the model takes them."""
    hp = keras_tuner.HyperParameters()
    hyper.point(hp)
    hp.values.update(result.values)
    return hyper.point(hp)


def table(results, objective):
    """The best trials, as a `rich` table."""
    columns, *rows = _rows(results, objective)
    shown = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        shown.add_column(column, justify="left" if column == columns[-1] else "right", overflow="fold")
    for row in rows:
        shown.add_row(*map(Text, row))
    return shown


def problems(results):
    """What did not become a trained model, with its reason: a list of lines."""
    lines = [f"failed: trial {r.trial}. {r.reason}" for r in of_status(results, FAILED)]
    lines += [f"over a limit, not trained: trial {r.trial}. {r.reason}" for r in of_status(results, OVER_LIMIT)]
    return [printable(line) for line in lines]


def counts(results):
    """How many trials there are of each kind, in words."""
    kinds = (COMPLETED, FAILED, OVER_LIMIT, UNFINISHED)
    said = [(len(of_status(results, kind)), kind) for kind in kinds]
    return ", ".join(f"{count} {kind}" for count, kind in said if count or kind == COMPLETED)


def said(score, objective):
    """A score in words."""
    return f"{objective.name} {score:.4f}"


def _rows(results, objective):
    """The names of the columns, and a row for each of the best trials."""
    best = ranked(results, objective)[:SHOWN]
    rows = [["trial", objective.name, "epoch", "parameters", "MFLOP", "ms", "s", "point"]]
    for r in best:
        point = ", ".join(f"{name} {short(value)}" for name, value in r.values.items())
        rows.append([r.trial, f"{r.score:.4f}", str(r.epoch), f"{r.parameters:,}", f"{r.flops / 1e6:,.1f}"])
        rows[-1] += [f"{r.latency_ms:.2f}", f"{r.seconds:,.0f}", printable(point)]
    return rows


def _markdown(results, objective, hyper, shares, about):
    columns, *rows = _rows(results, objective)
    parts = [
        f"# Search: {printable(hyper.source.name)}",
        *about,
        f"{counts(results)}. The score of a trial is that of its best epoch on the validation split; milliseconds are "
        "of one example on the machine of the search.",
        markdown_table(columns, rows, left=columns[-1:]),
        *problems(results),
        *(
            f"left out of the space: {name} {value}. {why}"
            for name, all_ in hyper.left_out.items()
            for value, why in all_
        ),
        "![Score over the trials](progress.png)",
        "![Each hyper-parameter against the score](hyperparameters.png)",
        "![Score against latency, and the Pareto front](latency.png)",
        "![Importance](importance.png)" if shares else "Importance is not told from so few trials.",
    ]
    return "\n\n".join(parts) + "\n"


def _csv(results):
    names = sorted({name for result in results for name in result.values})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*FACTS, *names))
    for result in results:
        facts = [getattr(result, name) for name in FACTS]
        writer.writerow(["" if v is None else v for v in (*facts, *(result.values.get(name) for name in names))])
    return text.getvalue()
