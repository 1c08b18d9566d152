"""KerasTuner's oracles, of a search that may be killed at any moment, and that has an end in time."""

import contextlib
import itertools
import json
import math
import shutil
import statistics
import time
import warnings
from pathlib import Path

import keras_tuner
from keras_tuner import oracles
from keras_tuner.engine import hyperparameters
from keras_tuner.engine import trial as trials
from sklearn.exceptions import ConvergenceWarning

from keras_perceiver._files import write_atomically

STATE = "oracle.json"  # KerasTuner's name


class Durable:
    """What the oracle of every search has beside what KerasTuner's oracles do.

    KerasTuner writes a trial and the state of its oracle one after the other: killed in between, a search loses a trial
    or runs one twice. Here one file, replaced as a whole when a trial begins or ends, holds both; `restore` makes the
    others from it.

    Args:
        seed: of the points, in [0, 2**32).
        folder: of KerasTuner's project.
        minutes: of the whole search, with what was before it was interrupted (but for what a trial that was killed had
            taken); None for any. A trial begins only if one as long as the mean would end in time.
        on_end: function of (this oracle, a trial) that has ended.
        begins_with_default: whether the first trial is the default point.
    """

    def __init__(self, *args, seed, folder, minutes, on_end, begins_with_default=True, **kwargs):
        super().__init__(*args, seed=_for_kerastuner(seed), **kwargs)
        self.folder = Path(folder)
        self.minutes = minutes
        self.on_end = on_end
        self.begins_with_default = begins_with_default
        self._spent, self._began, self._is_busy = 0.0, time.monotonic(), False
        self._trial_began, self._trial_seconds = {}, {}  # by id; the seconds are of those that were trained

    @property
    def seconds(self):
        """How long the search has taken, with what was before it was interrupted."""
        return self._spent + time.monotonic() - self._began

    @keras_tuner.synchronized
    def create_trial(self, tuner_id):
        with self._saving_once():
            trial = super().create_trial(tuner_id)
            if trial.status == trials.TrialStatus.RUNNING:  # also one that begins again
                self._trial_began[trial.trial_id] = self.seconds
            return trial

    @keras_tuner.synchronized
    def end_trial(self, trial):
        if trial.trial_id in self.end_order:  # of a worker that was thought to be gone, when another had it again
            self.ongoing_trials = {k: t for k, t in self.ongoing_trials.items() if t.trial_id != trial.trial_id}
            return
        with self._saving_once():
            super().end_trial(trial)
            began, ended = self._trial_began.pop(trial.trial_id, None), self.trials[trial.trial_id]
            if began is not None and ended.status == trials.TrialStatus.COMPLETED:
                self._trial_seconds[trial.trial_id] = self.seconds - began
            state = self.get_state()
            if trial.trial_id in state["retry_queue"]:  # of a worker that went on while the chief was started again
                state["retry_queue"].remove(trial.trial_id)
                self.set_state(state)
        self.on_end(self, self.trials[trial.trial_id])

    def populate_space(self, trial_id):
        if self.minutes is not None and not self._has_time():
            return {"status": trials.TrialStatus.STOPPED, "values": None}
        if self.begins_with_default and not self.trials:
            values = {hp.name: hp.default for hp in self.get_space().space}
            return {"status": trials.TrialStatus.RUNNING, "values": values}
        return super().populate_space(trial_id)

    def get_state(self):
        held = {trial_id: trial.get_state() for trial_id, trial in self.trials.items()}
        return {**super().get_state(), "trials": held, "seconds": self.seconds, "trial_seconds": self._trial_seconds}

    def set_state(self, state):
        super().set_state(state)
        self._spent, self._began = state["seconds"], time.monotonic()
        self._trial_seconds = state.get("trial_seconds", {})  # a search from before it was kept has none

    def save(self):
        if not self._is_busy:
            write_atomically(self.folder / STATE, json.dumps(self.get_state()))

    @contextlib.contextmanager
    def _saving_once(self):
        """What changes in the block is written when all of it has."""
        self._is_busy = True
        try:
            yield
        finally:
            self._is_busy = False
        self.save()

    def _has_time(self):
        mean = statistics.mean(self._trial_seconds.values()) if self._trial_seconds else 0.0
        return self.seconds + mean < 60 * self.minutes


def _for_kerastuner(seed):
    """A seed that KerasTuner does not take for none, as it does 0, and that NumPy takes, which has none above."""
    return 1 + seed % (2**32 - 1)


class Random(Durable, oracles.RandomSearchOracle):
    """Points at random."""


class Hyperband(Durable, oracles.HyperbandOracle):
    """Many points for a few epochs, the best of them for more; again and again until there are so many trials."""

    def __init__(self, *args, max_trials, **kwargs):
        super().__init__(*args, hyperband_iterations=None, begins_with_default=False, **kwargs)
        self.max_trials = max_trials

    def populate_space(self, trial_id):
        """In a first round another trial takes the place of one that has failed or was over a limit.

        KerasTuner goes on with the best only when of a round more have been completed than will be thrown out.
        """
        state = self.get_state()
        for bracket in state["brackets"]:
            first = bracket["rounds"][0]
            first[:] = [one for one in first if self.trials[one["id"]].status != trials.TrialStatus.FAILED]
        self.set_state(state)
        return super().populate_space(trial_id)


def first_round(space, epochs):
    """`(trials, epochs)` of the first round of a Hyperband of so many epochs at most: how many begin, and
    how long they are, before the best go on."""
    oracle = oracles.HyperbandOracle("loss", max_epochs=epochs, hyperparameters=space, hyperband_iterations=None)

    def point(number):
        values = oracle.populate_space(str(number))["values"]
        oracle.trials[str(number)] = trials.Trial(space, str(number))  # which never ends, so that none goes on
        return values

    points = map(point, itertools.count())
    first = next(points)
    same = itertools.takewhile(lambda values: values and values["tuner/bracket"] == first["tuner/bracket"], points)
    return 1 + sum(1 for _ in same), first["tuner/epochs"]


class _Process(oracles.BayesianOptimizationOracle):
    """KerasTuner's, whose random numbers follow from the number of the trial: they are not part of its state, and a
    search that goes on would take another way."""

    def populate_space(self, trial_id):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of few trials, a length scale may be any
            response = self._asked(oracles.BayesianOptimizationOracle, self._judged(), trial_id)
        response = {**response, "values": self._rounded(response["values"])}
        tried = [trial.hyperparameters.values for trial in self.trials.values()]
        if response["values"] in tried:  # of a space without ranges, the same point would be trained again
            return self._asked(oracles.RandomSearchOracle, self.trials, trial_id)
        return response

    def _rounded(self, values):
        """The values with four digits: the seventh of an optimum may be another one in another process."""
        if values is None:
            return None
        floats = [hp for hp in self.get_space().space if isinstance(hp, hyperparameters.Float) and hp.step is None]
        rounded = {hp.name: float(f"{values[hp.name]:.4g}") for hp in floats}
        return {**values, **{hp.name: min(max(rounded[hp.name], hp.min_value), hp.max_value) for hp in floats}}

    def _asked(self, kind, judged, trial_id):
        """What an oracle of KerasTuner's with this one's state would try next; what it has drawn is drawn here too."""
        seed = _for_kerastuner(self.seed - 1 + len(self.trials))
        oracle = kind(objective=self.objective, max_trials=self.max_trials, seed=seed)
        oracle.trials = self.trials
        oracle.set_state(self.get_state())
        oracle.trials = judged
        response = oracle.populate_space(trial_id)
        self.set_state({**self.get_state(), **oracle.get_state()})
        return response

    def _judged(self):
        """The trials, with a score for those that have none.

        What failed, or was over a limit, counts as the worst: left out, it would be proposed again. What is being
        trained counts as the mean of all, so that another worker gets another point: KerasTuner would ask the process
        that is fitted here, before it is.
        """
        scores = [t.score for t in self.trials.values() if t.status == trials.TrialStatus.COMPLETED]
        if not scores:
            return self.trials
        worst = min(scores) if self.objective.direction == "max" else max(scores)
        taken = {trials.TrialStatus.FAILED: worst, trials.TrialStatus.RUNNING: statistics.mean(scores)}
        judged = dict(self.trials)
        for trial_id, trial in self.trials.items():
            if trial.status in taken:
                judged[trial_id] = trials.Trial(trial.hyperparameters, trial_id, trials.TrialStatus.COMPLETED)
                judged[trial_id].score = taken[trial.status]
        return judged


class Bayesian(Durable, _Process):
    """Points where a Gaussian process of all trials before expects the most, behind a third of them at random."""

    def __init__(self, *args, max_trials, **kwargs):
        super().__init__(*args, max_trials=max_trials, num_initial_points=max(3, max_trials // 3), **kwargs)


class _Product(keras_tuner.Oracle):
    """All combinations, one after the other. KerasTuner's own oracle loses its place when it is loaded again, and makes
    workers wait for each other; here the place is the number of the trial."""

    def populate_space(self, trial_id):
        space = self.get_space().space
        point = next(itertools.islice(itertools.product(*_values(space)), int(trial_id), None), None)
        if point is None:
            return {"status": trials.TrialStatus.STOPPED, "values": None}
        named = {hp.name: value for hp, value in zip(space, point, strict=True)}
        return {"status": trials.TrialStatus.RUNNING, "values": named}


def combinations(space):
    """How many points a grid of KerasTuner's hyper-parameters has."""
    return math.prod(map(len, _values(space.space)))


def _values(space):
    return [dict.fromkeys([hp.default, *hp.values]) for hp in space]  # the default first


class Grid(Durable, _Product):
    """All combinations; ten values of a range that has no `step`."""


ORACLES = {"random": Random, "bayesian": Bayesian, "hyperband": Hyperband, "grid": Grid}


def restore(folder, tuner_id):
    """Makes the files of KerasTuner's project what the one file says that `Durable` keeps; it reloads from them."""
    folder, path = Path(folder), Path(folder) / STATE
    held = json.loads(path.read_text())["trials"] if path.is_file() else {}
    for other in folder.glob("trial_*"):
        if other.name.removeprefix("trial_") not in held:
            shutil.rmtree(other)
    for trial_id, state in held.items():
        own = folder / f"trial_{trial_id}"
        own.mkdir(exist_ok=True)
        write_atomically(own / "trial.json", json.dumps(state))
    if path.is_file():
        write_atomically(folder / f"{tuner_id}.json", "{}")  # without it KerasTuner begins anew
    else:
        (folder / f"{tuner_id}.json").unlink(missing_ok=True)


def read_trials(folder):
    """KerasTuner's trials of a project, in the order in which they began."""
    path = Path(folder) / STATE
    if not path.is_file():
        return []
    state = json.loads(path.read_text())
    return [trials.Trial.from_state(state["trials"][trial_id]) for trial_id in state["start_order"]]
