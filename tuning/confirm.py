"""The best of a search beside the default, several seeds of both: `python -m tuning.confirm tuning/results/digits`."""

import statistics
import sys
from pathlib import Path
from typing import Annotated

import keras
import typer
from rich.table import Table

from keras_perceiver._checks import InputError, printable, require
from keras_perceiver._files import write_atomically
from keras_perceiver.cli_options import TRY_AGAIN, table_console
from keras_perceiver.data import load_source
from keras_perceiver.studies.report import markdown_table
from keras_perceiver.training import Run, Stopped, train, with_settings
from keras_perceiver.training.configuration import configuration, data_options
from keras_perceiver.training.evaluate import reload_source
from tuning.tuner import latency_of

ARMS = ("default", "best")  # each with a file of arguments of `train` in the folder of the search
LATENCY_TURNS = 5
COLUMNS = ("", "test figure", "spread", "of each seed", "parameters", "ms")


def confirm(folder, *, seeds=5, epochs=None, console):
    """Trains the default and the best of a search with several seeds, and compares them on the test split.

    Each is an ordinary run in the folder `confirmation`; the same call goes on where it was interrupted.

    Args:
        folder: of a search.
        seeds: how many; they are 0, 1, ..
        epochs: of each run; None for those of the search.
        console: `rich.console.Console` that shows what happens.

    Returns:
        `{"default" | "best": [figure of each seed]}`, accuracy or mean average precision on the test split.

    Raises:
        InputError: where the folder holds no search with a result, or runs of another confirmation: of an earlier best,
            of other epochs or of other data; before any run.
    """
    folder = Path(folder)
    data = Run(folder, "search").config()["data"]
    require(data is not None, "The data of the search must have a name or a path", search=str(folder))
    own = {"recipe": {"epochs": epochs}, "preset": None, "base_recipe": None}
    own |= {name: {} for name in ("source", "preprocess", "model")}
    settings = {arm: with_settings(folder / f"{arm}.json", own) for arm in ARMS}
    runs = {arm: [Run(folder / "confirmation" / arm / f"seed{seed}") for seed in range(seeds)] for arm in ARMS}
    for arm in ARMS:
        _require_of_now(runs[arm], data, settings[arm], folder / "confirmation", console)
    for seed in range(seeds):
        for arm in ARMS:
            run = runs[arm][seed]
            if not run.is_finished:
                console.print(f"{arm}, seed {seed}")
                train(data, output=run.folder, shelf=None, seed=seed, console=console, **settings[arm])
    figures = {arm: [_figure(run) for run in runs[arm]] for arm in ARMS}
    models = {arm: keras.models.load_model(runs[arm][0].model_path) for arm in ARMS}
    ms = _latencies(models, runs["best"][0])
    rows = [_row(arm, figures[arm], models[arm], ms[arm]) for arm in ARMS]
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    said = "Figure on the test split: mean, sample standard deviation and each seed; milliseconds of one example."
    write_atomically(folder / "confirmation.md", f"{markdown_table(COLUMNS, rows, left=COLUMNS[:1])}\n\n{said}\n")
    return figures


def _require_of_now(runs, data, settings, folder, console):
    """Requires the runs of one arm that have begun to be those that would begin now."""
    begun = {seed: run for seed, run in enumerate(runs) if run.has_begun}
    if not begun:
        return
    options, preprocess = data_options(data, settings["preset"], settings["source"], settings["preprocess"])
    source = load_source(data, console=console, **options)
    for seed, run in begun.items():
        model, recipe, names = settings["model"], settings["recipe"], (settings["preset"], settings["base_recipe"])
        run.require_same(
            configuration(source, seed, "perceiver", model, recipe, preprocess, *names),
            f"It is of another confirmation; the search may have found another best since. Remove {str(folder)!r} to "
            "confirm what there is now, or ask for the same `epochs` to see that one.",
        )


def _figure(run):
    metrics = run.read_json("metrics.json")
    return metrics.get("accuracy", metrics.get("mean_average_precision"))


def _latencies(models, run):
    """`{arm: milliseconds of one example}` here and now: the least of several measurements, made in turns."""
    config = run.config()
    source = reload_source(run, config)
    measures = {arm: latency_of(models[arm], source, config["preprocess"]) for arm in ARMS}
    turns = [{arm: measures[arm]() for arm in ARMS} for _ in range(LATENCY_TURNS)]
    return {arm: min(turn[arm] for turn in turns) for arm in ARMS}


def _row(arm, figures, model, ms):
    """The cells of one arm."""
    spread = f"{statistics.stdev(figures):.2%}" if len(figures) > 1 else ""
    each = ", ".join(f"{figure:.2%}" for figure in figures)
    return arm, f"{statistics.mean(figures):.2%}", spread, each, f"{model.count_params():,}", f"{ms:.2f}"


def main(
    search: Annotated[Path, typer.Argument(help="Folder of a search.")],
    seeds: Annotated[int, typer.Option(help="Runs of each, with seeds 0, 1, ..", min=1)] = 5,
    epochs: Annotated[int | None, typer.Option(help="Of each run.", show_default="the search's", min=1)] = None,
):
    """Train the best of a search and the default with several seeds, and compare them on the test split."""
    try:
        confirm(search, seeds=seeds, epochs=epochs, console=table_console())
    except (InputError, Stopped) as error:
        print(f"tuning: {printable(str(error))}", file=sys.stderr)
        raise typer.Exit(2 if isinstance(error, InputError) else TRY_AGAIN) from error


if __name__ == "__main__":
    typer.run(main)
