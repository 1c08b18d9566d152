"""A search on one machine, by KerasTuner."""

import json
from pathlib import Path

import keras_tuner
from rich.table import Column, Table

from keras_perceiver._checks import require
from keras_perceiver.data import load_source, steps_per_epoch
from keras_perceiver.training import RECIPES, HyperPerceiver
from keras_perceiver.training.configuration import configuration
from keras_perceiver.training.feeding import evaluation_data, training_data
from keras_perceiver.training.runs import differences, write_atomically


class ReportingSearch(keras_tuner.RandomSearch):
    """KerasTuner's random search with a line after each trial."""

    def __init__(self, *args, console, **kwargs):
        super().__init__(*args, **kwargs)
        self.console = console

    def on_trial_end(self, trial):
        super().on_trial_end(trial)
        ended = self.oracle.get_trial(trial.trial_id)
        score = f"val_accuracy {ended.score:.2%}" if ended.score is not None else "no score"
        self.console.print(
            f"trial {len(self.oracle.end_order)} of {self.oracle.max_trials}: {ended.status.lower()}, {score}"
        )


class FailedTrials(RuntimeError):
    """Trials that KerasTuner marked as failed and would have passed over."""


def search(data, *, trials, epochs, seed=0, output=None, console):
    """Trains `trials` models for `epochs` epochs each and reports them, the best first.

    Args:
        data: name of the data set, see `load_source`.
        trials: how many models.
        epochs: passes over the training split per trial.
        seed: of the choice of points, of initial weights and of the order of the data.
        output: folder of the search; None for `tuning/results/<data>`. An unfinished search goes on.
        console: `rich.console.Console` that shows what happens.

    Returns:
        The hyper-parameters of the best trial, a dictionary; also in `best.json`.

    Raises:
        InputError: where the data are unknown or the folder holds another search.
        FailedTrials: where a trial failed; the others have been reported.
    """
    source = load_source(data)
    require(
        not source.is_multi_label,
        "Each example must have one label: the search is for the best accuracy",
        classes=len(source.class_names),
    )
    output = Path(output or f"tuning/results/{source.name}")
    _claim(output, {"data": data, "trials": trials, "epochs": epochs, "seed": seed})
    train = source.splits["train"]
    recipe = RECIPES[source.preset].resolved(len(train), epochs=epochs)
    model = configuration(source, seed, "perceiver", {}, {"epochs": epochs})["model"]
    steps = steps_per_epoch(train, recipe.batch_size)
    tuner = ReportingSearch(
        HyperPerceiver(model, recipe, steps, seed=seed),
        objective="val_accuracy",
        max_trials=trials,
        max_consecutive_failed_trials=trials + 1,  # a failed trial is reported at the end, with its reason
        seed=seed,
        directory=output,
        project_name="trials",
        console=console,
    )
    tuner.search(
        training_data(source, recipe, seed),
        epochs=epochs,
        steps_per_epoch=steps,
        validation_data=evaluation_data(source, "validation"),
        shuffle=False,
        verbose=0,
    )
    return _report(tuner, output, console)


def _claim(folder, settings):
    """Makes a folder this search's, or finds it to be."""
    path = folder / "search.json"
    if path.is_file():
        differing = differences(json.loads(path.read_text()), settings)
        require(
            not differing,
            f"`output` {str(folder)!r} holds another search, which differs in "
            + "; ".join(f"{key}: {old!r} there, {new!r} here" for key, old, new in differing),
            repair="Choose another folder with `--output`, or remove this one.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(settings, indent=2) + "\n")


def _report(tuner, folder, console):
    trials = list(tuner.oracle.trials.values())
    completed = [t for t in trials if t.status == "COMPLETED"]
    completed.sort(key=lambda t: t.score, reverse=True)
    names = sorted({name for t in trials for name in t.hyperparameters.values})
    table = Table(*(Column(name, overflow="fold") for name in ("trial", "val_accuracy", *names)))
    for trial in completed:
        values = (trial.hyperparameters.values.get(name, "") for name in names)
        table.add_row(trial.trial_id, f"{trial.score:.2%}", *(_short(v) for v in values))
    console.print(table)
    best = completed[0].hyperparameters.values if completed else None
    if best:
        result = {"val_accuracy": completed[0].score, "hyperparameters": best}
        write_atomically(folder / "best.json", json.dumps(result, indent=2) + "\n")
        console.print(f"best of {len(completed)} trials: {completed[0].trial_id}, see {folder / 'best.json'}")
    failed = [t for t in trials if t.status not in ("COMPLETED", "RUNNING", "IDLE")]
    if failed:
        lines = [f"trial {t.trial_id} ({t.status}): {(t.message or '').strip()}" for t in failed]
        raise FailedTrials("\n".join([f"{len(failed)} of {len(trials)} trials failed", *lines]))
    return best


def _short(value):
    return f"{value:.2g}" if isinstance(value, float) else str(value)
