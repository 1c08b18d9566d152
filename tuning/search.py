"""A search, on one machine or on several, by KerasTuner."""

import dataclasses
import os
from contextlib import ExitStack
from pathlib import Path

import keras_tuner

from keras_perceiver._checks import given, require, require_above, require_one_of, require_positive
from keras_perceiver._files import read_json_object
from keras_perceiver.data import load_source
from keras_perceiver.training import HyperPerceiver, Run
from keras_perceiver.training.configuration import check_names, data_options, resolved_preset
from keras_perceiver.training.exports import export_run
from keras_perceiver.training.memory import keep_freed_memory
from keras_perceiver.training.progress import many_models
from tuning import best, report
from tuning.budget import require_budget
from tuning.oracles import ORACLES, combinations, first_round, restore
from tuning.progress import Progress
from tuning.results import FAILED, PROJECT, of_status, ranked, read_results
from tuning.tuner import Limits, Search
from tuning.workers import IP, Role, run_workers

SPACES = Path(__file__).parent / "spaces"
RESULTS = Path("tuning") / "results"
# By name: what Keras calls it, whether more of it is better, and whether examples have several labels; None for either.
OBJECTIVES = {
    "accuracy": ("val_accuracy", "max", False),
    "loss": ("val_loss", "min", None),
    "mAP": ("val_mean_average_precision", "max", True),
}


class FailedTrials(RuntimeError):
    """Trials have failed, which KerasTuner would have passed over; the others have been reported."""


def search(
    data,
    *,
    tuner="random",
    space=None,
    trials=20,
    epochs=20,
    minutes=None,
    limits=None,
    objective=None,
    seed=0,
    source=None,
    preprocess=None,
    preset=None,
    model=None,
    base_recipe=None,
    recipe=None,
    output=None,
    workers=1,
    port=0,
    tolerate_failures=False,
    export=False,
    shelf="saved_models",
    console,
):
    """Tries models of a space on a data set and reports them, the best first.

    The same call goes on with a search that was interrupted, however that was; with more `trials` or `minutes` if asked
    to. The test split is looked at once, by the best model in the end.

    Args:
        data, source, preprocess, preset, model, base_recipe, seed: see `train`.
        tuner: key of `ORACLES`.
        space: `{name: values}`, or the path of a JSON file of it, see `HyperPerceiver`; None for that of the data set
            or of its modality in `tuning/spaces`, and for what lies around a preset or a model that is given.
        trials: how many, at most; those that are over a limit count.
        epochs: of a trial; of Hyperband's longest ones.
        minutes: of the whole search; None for any. The trial in which they end is not begun.
        limits: dictionary of attributes of `Limits`.
        objective: key of `OBJECTIVES`; None for accuracy, or mAP of several labels an example.
        recipe: dictionary of attributes of `Recipe`, but for `epochs`.
        output: folder of the search; None for `tuning/results/<name of the data>`.
        workers: processes that train at once on this machine, with its cores divided among them.
        port: on which they talk, of the loopback interface; 0 for a free one.
        tolerate_failures: whether failed trials are no error where others are completed.
        export: whether the best model is put on the shelf.
        shelf: see `train`.
        console: `rich.console.Console` that shows what happens.

    Returns:
        The list of `TrialResult`; None of a worker that was started by hand.

    Raises:
        InputError: where an argument is wrong, the data cannot give the objective, the space has no legal point, the
            budget is too small for one trial, the port is in use, or the folder holds another search; before the first
            trial.
        FailedTrials: where a trial failed, or none was completed.
    """
    arguments = {name: value for name, value in locals().items() if name not in ("data", "console")}
    _require_sound(data, tuner, trials, epochs, minutes, limits, workers)
    check_names("perceiver", preset, base_recipe)
    role = Role.found(port)
    require(
        role.is_launched or role.is_alone or workers == 1,
        f"`workers` must be left out where `{IP}` makes this process one of a search",
        workers=workers,
    )
    require(role.is_launched or workers > 1 or not port, "`port` must be given with `workers` alone", port=port)
    role.require_port()
    keep_freed_memory()
    preset = resolved_preset(preset, base_recipe, "perceiver", data, source)  # `best.json` names it
    source_options, preprocess = data_options(data, preset, source, preprocess)
    loaded = load_source(data, console=console, **source_options)
    target = _objective(objective, loaded)
    options = {"preset": preset, "base_recipe": base_recipe, "preprocess": preprocess}
    if space is None and preset is None and not model:
        space = _own_space(loaded)
    if isinstance(space, (str, Path)):
        space = read_json_object(space, "space", f"There are some in {SPACES}.")
    recipe = {**given(recipe), "epochs": epochs}
    hyper = HyperPerceiver(loaded, space=space, seed=seed, model=model, recipe=recipe, **options)
    run = Run(output or RESULTS / loaded.name, "search")
    limits = Limits(**(limits or {}))
    identity = _identity(hyper, tuner, target, limits, seed)
    if role.is_worker and not role.is_launched:
        _require_chiefs_folder(run, identity)
    with ExitStack() as stack:
        if role.owns_folder:
            said, first_epochs = scope(hyper, tuner, trials, epochs)
            if not run.has_begun:
                require_budget(hyper, limits, minutes, first_epochs=first_epochs)
            stack.enter_context(run.locked())
            run.claim(identity)
            _say_what_is_searched(hyper, tuner, [*said, f"up to {trials} trials, in {run.folder}"], console)
        progress = Progress(target, run.folder / PROJECT, console)
        settings = {"kind": tuner, "trials": trials, "minutes": minutes, "seed": seed, "epochs": epochs}
        made = None
        try:
            if role.is_alone and workers > 1:
                passed = {"data": data, **arguments, "output": run.folder}
                run_workers(passed, workers, role, lambda name: _ended_by(name, run.folder), console)
            else:
                made = build_tuner(hyper, target, limits, run.folder, progress, role, **settings)
                with many_models():
                    made.search(verbose=0)
        finally:
            if role.reports:
                results = read_results(run.folder)
                about = _about(hyper, tuner, target, limits)
                kept = {"source": _as_json(source), "preset": preset, "base_recipe": base_recipe, "model": model or {}}
                kept |= {"preprocess": preprocess, "recipe": recipe}
                report.write_report(run.folder, results, target, hyper, kept, about)
        if not role.reports:
            return None
        made = made or build_tuner(hyper, target, limits, run.folder, progress, role, **settings)
        return _finished(made, results, run.folder, tolerate_failures, shelf if export else None, console)


def build_tuner(hyper, objective, limits, folder, progress, role, *, kind, trials, minutes, seed, epochs):
    """KerasTuner's tuner of a search, which has reloaded what there is."""
    project = folder / PROJECT
    project.mkdir(exist_ok=True)
    if role.is_worker:  # the chief has the state
        (project / f"{role.tuner_id}.json").unlink(missing_ok=True)
    else:
        restore(project, role.tuner_id)
    oracle = ORACLES[kind](
        objective=objective,
        max_trials=trials,
        seed=seed,
        max_consecutive_failed_trials=trials + 1,  # failed trials are shown, and are an error in the end
        folder=project,
        minutes=minutes,
        on_end=progress.on_end,
        **({"max_epochs": epochs} if kind == "hyperband" else {}),
    )
    own = {"limits": limits, "is_watched": role.is_launched}
    return Search(oracle, hyper, **own, directory=folder, project_name=PROJECT)


def _require_sound(data, tuner, trials, epochs, minutes, limits, workers):
    """Requires what can be said of arguments without the data."""
    require_one_of(ORACLES, tuner=tuner)
    require_positive(trials=trials, epochs=epochs, workers=workers)
    if minutes is not None:
        require_above(0, minutes=minutes)
    for name, value in given(limits).items():
        require_above(0, **{f"max_{name}": value})
    require(
        workers == 1 or isinstance(data, str), "`data` must be a name or a path for several workers", workers=workers
    )


def _ended_by(worker, folder):
    """How many trials a worker has ended."""
    return sum(result.worker == worker for result in read_results(folder))


def _require_chiefs_folder(run, identity):
    """Requires, of a worker that was started by hand, the folder of this very search."""
    repair = "Start the chief first, with the same command and a folder that both share."
    output = str(run.folder)
    require(run.has_begun, "`output` must be the folder in which the chief searches", output=output, repair=repair)
    run.require_same(identity, repair)


def _objective(name, source):
    """`keras_tuner.Objective`, which the data must be able to give."""
    name = name or ("mAP" if source.is_multi_label else "accuracy")
    require_one_of(OBJECTIVES, objective=name)
    metric, direction, is_multi_label = OBJECTIVES[name]
    labels = "several labels" if source.is_multi_label else "one label"
    require(
        is_multi_label in (None, source.is_multi_label),
        f"`objective` must be one that the data can give: these have {labels} an example",
        objective=name,
        repair=f"Choose 'loss' or {'mAP' if source.is_multi_label else 'accuracy'!r}.",
    )
    require(
        name != "mAP" or source.splits["validation"].labels.any(),
        "`objective` must be one that the data can give: no validation example has a label",
        objective=name,
        repair="Choose 'loss'.",
    )
    return keras_tuner.Objective(metric, direction)


def _own_space(source):
    """The file of the data set, or of its modality."""
    own = SPACES / f"{source.preset}.json"
    return own if own.is_file() else SPACES / f"{source.modality}.json"


def _identity(hyper, tuner, objective, limits, seed):
    """What a search is known by; how long it goes on may change."""
    return {
        **{key: hyper.config[key] for key in ("data", "source", "preprocess", "model", "training")},
        "tuner": tuner,
        "space": {name: choices.values for name, choices in hyper.choices.items()},
        "objective": objective.name,
        "limits": dataclasses.asdict(limits),
        "seed": seed,
    }


def scope(hyper, tuner, trials, epochs):
    """What is to be said of how far so many trials go, and the epochs of Hyperband's first trials; None of others."""
    space = keras_tuner.HyperParameters()
    hyper.point(space)
    if tuner == "grid" and trials < (count := combinations(space)):
        said = f"the first {trials:,} of {count:,} combinations: what the space names last varies fastest"
        return [said], None
    if tuner != "hyperband":
        return [], None
    count, first = first_round(space, epochs)
    short = f"of {count} first trials, {first} epochs each, the best go on"
    return [f"{short}: with {trials} trials none does" if trials <= count else short], first


def _say_what_is_searched(hyper, tuner, more, console):
    source = hyper.source
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in source.splits.items())
    lines = [f"{source.name}: {sizes} examples; {tuner} search over {len(hyper.choices)} hyper-parameters"]
    lines += [f"left out: {name} {value}. {why}" for name, wrong in hyper.left_out.items() for value, why in wrong]
    lines += [*source.report.lines(), *more]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _about(hyper, tuner, objective, limits):
    """Sentences for the report."""
    kept = ", ".join(f"{name} {value:,}" for name, value in given(dataclasses.asdict(limits)).items())
    return [
        f"{tuner.capitalize()} search over {len(hyper.choices)} hyper-parameters with KerasTuner, objective "
        f"`{objective.name}`, {hyper.recipe.epochs} epochs a trial{f', limits: {kept}' if kept else ''}. "
        "`best.json` is for `keras-perceiver train DATA --config best.json`."
    ]


def _finished(tuner, results, folder, tolerate_failures, shelf, console):
    """Says what was found, keeps the best model and exports it if asked to."""
    objective, completed = tuner.oracle.objective, ranked(results, tuner.oracle.objective)
    if completed:
        console.print(report.table(results, objective))
        run, figure = best.keep_best(tuner, completed[0], folder)
        console.print(
            f"best of {len(completed)} trials: {completed[0].trial}, {report.said(completed[0].score, objective)}; "
            f"its weights on the test split: {figure}",
            soft_wrap=True,
        )
        lines = [f"report: {folder / 'report.md'}", f"configuration: {folder / 'best.json'}", f"model: {run.folder}"]
        if shelf is not None:
            lines.append(f"SavedModel: {export_run(run.folder, shelf=shelf, data=tuner.hypermodel.source).folder}")
        for line in lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    problems = report.problems(results)
    failed = of_status(results, FAILED)
    if not completed or (failed and not tolerate_failures):
        first = f"{len(failed)} of {len(results)} trials failed" if failed else "No trial was completed"
        raise FailedTrials("\n".join([first, *problems]))
    for line in problems:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return results


def _as_json(options):
    return {name: str(v) if isinstance(v, os.PathLike) else v for name, v in given(options).items()}
