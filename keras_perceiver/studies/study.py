"""Asks a question of a data set: every arm is trained with several seeds, and all of them are compared."""

import dataclasses
import inspect
import statistics
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from keras_perceiver._checks import InputError, given, require, require_one_of, require_positive
from keras_perceiver.data import Source, load_source, steps_per_epoch
from keras_perceiver.data.source import slug
from keras_perceiver.inspection import Description, describe_model
from keras_perceiver.layers import CrossAttention
from keras_perceiver.models import NETWORKS, build_classifier, build_encoder
from keras_perceiver.studies.costs import COSTS, Costs, read_costs
from keras_perceiver.studies.questions import QUESTIONS, Arm
from keras_perceiver.studies.report import ArmResult, StudyResult
from keras_perceiver.training import Run, train
from keras_perceiver.training.configuration import check_names, configuration, data_options
from keras_perceiver.training.progress import duration, many_models
from keras_perceiver.training.runs import OTHER_FOLDER


class PlannedArm(NamedTuple):
    """An arm whose network can be built for the data: what each of its runs is, apart from the seed."""

    name: str
    arm: Arm
    source: Source
    config: dict
    description: Description
    num_inputs: int | None  # M of its byte array, for a Perceiver

    @property
    def steps(self):
        """Of an epoch."""
        return steps_per_epoch(self.source.splits["train"], self.config["training"]["batch_size"])

    @property
    def examples_seen(self):
        training = self.config["training"]
        return training["epochs"] * self.steps * training["batch_size"]

    def run(self, folder, seed):
        """The run of one seed, in the folder of the study."""
        return Run(folder / slug(self.name) / f"seed{seed}")

    def seeds(self, folder):
        """Those of which there are runs, ascending."""
        names = (path.name.removeprefix("seed") for path in (folder / slug(self.name)).glob("seed*"))
        return sorted(int(name) for name in names if name.isdecimal())

    def run_config(self, seed):
        return {**self.config, "seed": seed}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all arms of a study share: names and arguments of `train`, and options of `load_source`."""

    data: object
    options: dict
    preprocess: dict
    preset: str | None
    recipe: dict

    @classmethod
    def of(cls, data, source, preprocess, preset, recipe):
        """With what a preset of the paper asks of the data."""
        check_names("perceiver", preset, None)
        options, preprocess = data_options(data, preset, source, preprocess)
        return cls(data, options, preprocess, preset, recipe or {})

    def load(self, console=None, **more):
        """The data, perhaps with other options."""
        return load_source(self.data, console=console, **{**self.options, **more})

    def preset_of(self, network):
        """The preset is that of a Perceiver."""
        return self.preset if network == "perceiver" else None

    def configuration(self, source, arm):
        """The configuration of the runs of an arm, but for the seed."""
        return configuration(
            source, 0, arm.network, arm.model, self.recipe, self.preprocess, self.preset_of(arm.network)
        )


def study(
    question,
    data,
    *,
    output=None,
    seeds=3,
    arms=None,
    source=None,
    preprocess=None,
    preset=None,
    recipe=None,
    console=None,
):
    """Trains every arm of a question with several seeds and compares their accuracy and their cost.

    Each arm is trained by `train`, on the same data in the same order, with the same recipe and for as many epochs:
    all see the same number of examples. Each run has a folder of its own in that of the study, so a study that was
    killed goes on with the same call; arms and seeds may be added later, and are reported with those that are there.

    Args:
        question: key of `QUESTIONS`.
        data: see `load_source`.
        output: folder of the study; None for `studies/<question>-<name of the data>`.
        seeds: how many; they are 0, 1, ..
        arms: names of some of the arms; None for all of them.
        source: dictionary of arguments of `load_source`.
        preprocess: dictionary of arguments of what stands before the networks, see `preprocess_audio`.
        preset: key of `PRESETS`, the Perceiver that is varied; None for that of the data set or of its modality.
        recipe: dictionary of attributes of `Recipe` in place of those of the data set or of its modality.
        console: `rich.console.Console` that shows what happens; None for a new one.

    Returns:
        `StudyResult`, which is also written to the folder, see there.

    Raises:
        InputError: where the question, the data or an arm is unknown, fewer than two arms can be built for the data, or
            the folder holds a study with other settings; before anything is trained. Later, where every run fails; if
            some do, the others go on, and the same call tries again.
    """
    require_one_of(QUESTIONS, question=question)
    require_positive(seeds=seeds)
    rule = "`patience` must not be in the `recipe` of a study: all arms see the same number of examples"
    require(given(recipe).get("patience") is None, rule, patience=given(recipe).get("patience"))
    console = console or Console()
    settings = Settings.of(data, source, preprocess, preset, recipe)
    loaded = settings.load(console)
    folder = Path(output or f"studies/{question}-{loaded.name}")
    planned, left_out = plan(question, loaded, arms, settings, folder)
    for name, reason in left_out.items():
        console.print(f"left out: {name}. {reason}", markup=False, highlight=False, soft_wrap=True)
    claim(folder, question, loaded, settings, planned, seeds)
    result = StudyResult(
        question=question,
        asks=QUESTIONS[question].asks,
        data=loaded.name,
        test_examples=len(loaded.splits["test"]),
        left_out=left_out,
        failed={},
        folder=str(folder),
        arms=results(planned, folder),
    )
    asked = [arm for arm in planned if arms is None or arm.name in arms]
    todo = [(arm, seed) for seed in range(seeds) for arm in asked if not arm.run(folder, seed).is_finished]
    for number, (arm, seed) in enumerate(todo):
        left = seconds_left(todo[number:], folder, seeds)
        about = "" if left is None else f", about {duration(left)} left"
        console.print(f"[bold]run {number + 1} of {len(todo)}{about}[/bold]: {arm.name}, seed {seed}", highlight=False)
        try:
            train_arm(arm, folder, seed, settings, console)
        except InputError as error:  # its loss is not finite any more, say: the other runs go on
            result.failed[f"{arm.name}, seed {seed}"] = str(error)
            console.print(f"failed: {error}", markup=False, highlight=False, soft_wrap=True)
            continue
        result = dataclasses.replace(result, arms=results(planned, folder))
        result.write_tables()
    require(
        bool(result.arms),
        "At least one run must end well",
        repair=" ".join(f"{name}: {reason}" for name, reason in result.failed.items()),
    )
    result.write_tables()
    result.write_picture()
    return result


def plan(question, source, names, settings, folder):
    """The arms that can be built for the data, and why the others cannot: `([PlannedArm, ..], {name: reason})`; those
    of these names, and those that have runs in the folder of the study already."""
    base = {**_defaults(), **settings.configuration(source, Arm())["model"]}
    arms = QUESTIONS[question].arms(base, _grids(base))
    for name in names or ():
        require_one_of(arms, arm=name)
    begun = {path.parent.name for path in folder.glob("*/seed*")}
    chosen = {name: arm for name, arm in arms.items() if names is None or name in names or slug(name) in begun}
    planned, left_out = [], {}
    for name, arm in chosen.items():
        try:
            planned.append(_planned(name, arm, source, settings))
        except InputError as error:
            left_out[name] = str(error)
    require(
        len(planned) >= min(2, len(chosen)),
        f"At least two arms of {question!r} must fit the data",
        data=source.name,
        repair=" ".join(f"{name}: {reason}" for name, reason in left_out.items()),
    )
    return planned, left_out


def _planned(name, arm, source, settings):
    if arm.source:
        source = settings.load(**arm.source)
    config = settings.configuration(source, arm)
    network = NETWORKS[arm.network](**config["model"])
    problem = _byte_problem(network)
    num_inputs = None if problem is None else problem.total_length
    return PlannedArm(name, arm, source, config, describe_model(network), num_inputs)


def claim(folder, question, source, settings, planned, seeds):
    """Makes the folder this study's, or finds it to be, together with every run in it."""
    config = {
        "question": question,
        "data": source.data,
        "source": source.description(),
        **({"preprocess": settings.preprocess} if settings.preprocess else {}),
        "preset": settings.preset,
        "training": planned[0].config["training"],
    }
    Run(folder, "study").claim(config)
    for arm in planned:
        for seed in {*range(seeds), *arm.seeds(folder)}:
            run = arm.run(folder, seed)
            if run.has_begun:
                run.require_same(arm.run_config(seed), OTHER_FOLDER)


def train_arm(arm, folder, seed, settings, console):
    """One run of an arm; it goes on where it was killed."""
    run = arm.run(folder, seed)
    with many_models():
        train(
            arm.source,
            output=run.folder,
            shelf=None,
            seed=seed,
            network=arm.arm.network,
            preprocess=settings.preprocess,
            preset=settings.preset_of(arm.arm.network),
            model=arm.arm.model,
            recipe=settings.recipe,
            callbacks=[Costs(run.folder / COSTS, arm.steps)],
            console=console,
        )


def results(planned, folder):
    """What each arm has reached so far: a list of `ArmResult`, of those with a finished run."""
    found = []
    for arm in planned:
        runs = {seed: arm.run(folder, seed) for seed in arm.seeds(folder)}
        runs = {seed: run for seed, run in runs.items() if run.is_finished}
        if runs:
            metrics = {seed: run.read_json("metrics.json") for seed, run in runs.items()}
            costs = [read_costs(run.folder / COSTS) for run in runs.values()]
            found.append(ArmResult.of(arm, metrics, costs))
    return found


def seconds_left(todo, folder, seeds):
    """Best guess for runs that are to be done: that of its own arm with another seed, or else the mean of all.

    None where nothing is finished yet.
    """
    known = {}
    for arm, _ in todo:
        finished = [run for run in (arm.run(folder, seed) for seed in range(seeds)) if run.is_finished]
        known[arm.name] = [run.read_json("metrics.json")["seconds"] for run in finished]
    every = [Run(path.parent).read_json("metrics.json")["seconds"] for path in folder.glob("*/seed*/metrics.json")]
    if not every:
        return None
    return sum(statistics.mean(known[arm.name] or every) for arm, _ in todo)


def _defaults():
    """What `build_encoder` takes where nothing is said."""
    parameters = inspect.signature(build_encoder).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _grids(base):
    """`{modality: lengths of the index axes}` of the byte array of the Perceiver with these arguments."""
    problem = _byte_problem(build_classifier(**base))
    return {name: tuple(segment["content"][1:-1]) for name, segment in problem.segments.items()}


def _byte_problem(network):
    """The shapes that the cross-attends of a network meet, see `CrossAttention`; None where it has none."""
    return next((layer.problem for layer in network.layers if isinstance(layer, CrossAttention)), None)
