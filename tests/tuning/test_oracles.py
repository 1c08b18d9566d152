"""Oracles alone, without a model: a search that is killed anywhere ends with the trials of one that never was."""

import json
import statistics
from types import SimpleNamespace

import keras_tuner
import numpy as np
import pytest
from keras_tuner.engine.trial import Trial, TrialStatus
from sklearn.gaussian_process import GaussianProcessRegressor

from tests.layer_checks import thorough
from tuning import oracles
from tuning.oracles import ORACLES, combinations, first_round, read_trials, restore

NUM_TRIALS = {"random": 11, "bayesian": 5, "hyperband": 11, "grid": 11}  # a Gaussian process takes its time
OBJECTIVE = keras_tuner.Objective("val_accuracy", "max")


class Killed(BaseException):
    """In place of SIGKILL: what is not on disk is gone."""


def space():
    hp = keras_tuner.HyperParameters()
    hp.Choice("num_latents", [2, 3, 5], default=3)
    hp.Boolean("share_weights", default=True)
    hp.Float("learning_rate", 1e-3, 1e-1, sampling="log", step=10)
    return hp


def score(values):
    return 0.5 + values["num_latents"] / 20 + values["learning_rate"] - 0.1 * values["share_weights"]


class Tuner:
    """What KerasTuner's tuner does with its oracle."""

    def __init__(self, kind, folder, *, minutes=None, trials=None, seed=6):
        self.ended = []
        self.oracle = ORACLES[kind](
            objective=OBJECTIVE,
            max_trials=trials or NUM_TRIALS[kind],
            seed=seed,
            hyperparameters=space(),
            folder=folder,
            minutes=minutes,
            on_end=lambda oracle, trial: self.ended.append(trial.trial_id),
            **({"max_epochs": 4} if kind == "hyperband" else {}),
        )
        self.oracle.verbose = 0
        restore(folder, "tuner0")
        self.tuner = keras_tuner.engine.base_tuner.BaseTuner(
            self.oracle, directory=folder.parent, project_name=folder.name
        )

    def search(self, tuner_id="tuner0"):
        while (trial := self.oracle.create_trial(tuner_id)).status != TrialStatus.STOPPED:
            if trial.status == TrialStatus.RUNNING:
                self.end(trial)

    def end(self, trial):
        self.oracle.update_trial(trial.trial_id, {"val_accuracy": score(trial.hyperparameters.values)}, step=1)
        trial.status = TrialStatus.COMPLETED
        self.tuner.on_trial_end(trial)


def found(folder):
    """What of a search must not depend on when it was killed."""
    trials = read_trials(folder)
    assert len({t.trial_id for t in trials}) == len(trials)
    state = json.loads((folder / oracles.STATE).read_text())
    assert sorted(state["end_order"]) == sorted(t.trial_id for t in trials)
    assert state["ongoing_trials"] == {}
    return [(t.trial_id, t.status, t.hyperparameters.values, t.score) for t in trials]


@pytest.mark.parametrize("kind", [kind for kind in ORACLES if kind != "bayesian"] + thorough("bayesian"))
def test_killed_before_and_after_any_write_a_search_ends_with_the_same_trials(kind, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    whole.mkdir()
    Tuner(kind, whole).search()
    expected = found(whole)
    assert len(expected) == NUM_TRIALS[kind]
    assert len({json.dumps(values) for _, _, values, _ in expected}) == len(expected), "a point was tried twice"

    killed = tmp_path / "killed"
    killed.mkdir()
    write, life, written = oracles.write_atomically, 0, []

    def mortal(path, text):
        """In turn: dies before the second state, behind it, and while the files are restored."""
        written.append(path.name)
        is_second = path.name == oracles.STATE and written.count(oracles.STATE) == 2
        if (life % 3 == 0 and is_second) or (life % 3 == 2 and path.name == "trial.json"):
            raise Killed
        write(path, text)
        if life % 3 == 1 and is_second:
            raise Killed

    monkeypatch.setattr(oracles, "write_atomically", mortal)
    deaths = 0
    for life in range(200):  # noqa: B007 (read by `mortal`)
        written.clear()
        try:
            Tuner(kind, killed).search()
            break
        except Killed:
            deaths += 1
    assert deaths > NUM_TRIALS[kind]
    assert found(killed) == expected


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_hyperband_goes_on_with_the_best_however_many_first_trials_have_failed(share, tmp_path):
    """Failed, or over a limit, which is the same to KerasTuner: others begin in their place."""
    tuner = Tuner("hyperband", tmp_path, trials=40)
    tuner.oracle.max_consecutive_failed_trials = 1000
    rng, first, later = np.random.default_rng(0), 0, []
    while (trial := tuner.oracle.create_trial("tuner0")).status != TrialStatus.STOPPED:
        values = trial.hyperparameters.values
        if "tuner/trial_id" in values:
            later.append(values["tuner/trial_id"])
        elif rng.random() < share:
            trial.status = TrialStatus.FAILED
            tuner.tuner.on_trial_end(trial)
            continue
        first += "tuner/trial_id" not in values
        tuner.end(trial)
    assert later
    assert first / len(later) == pytest.approx(8 / 2, rel=0.4), "of 5 and 3 first trials 2 go on"
    scores = {t.trial_id: t.score for t in read_trials(tmp_path)}
    assert all(scores[trial_id] is not None for trial_id in later)


@pytest.mark.parametrize("epochs", [4, 20, 50])
def test_the_first_round_of_hyperband_is_told_before_it_begins(epochs):
    count, first = first_round(space(), epochs)
    oracle = keras_tuner.oracles.HyperbandOracle(OBJECTIVE, max_epochs=epochs, hyperparameters=space(), seed=3)
    begun = []
    for number in map(str, range(count + 1)):
        begun.append(oracle.populate_space(number)["values"]["tuner/epochs"])
        oracle.trials[number] = Trial(space(), number)
    assert begun[:count] == [first] * count
    assert begun[count] > first


def test_a_grid_says_how_many_points_it_has(tmp_path):
    Tuner("grid", tmp_path, trials=100).search()
    assert combinations(space()) == len(read_trials(tmp_path)) == 3 * 2 * 3


def test_the_first_trial_is_the_default_point_and_a_grid_tries_all_of_them(tmp_path):
    tuner = Tuner("grid", tmp_path, trials=100)
    tuner.search()
    values = [values for _, _, values, _ in found(tmp_path)]
    assert values[0] == {"num_latents": 3, "share_weights": True, "learning_rate": 1e-3}
    assert len({json.dumps(value) for value in values}) == len(values) == 3 * 2 * 3


def test_a_search_goes_on_with_more_trials_and_ends_with_its_minutes(tmp_path):
    Tuner("random", tmp_path, trials=3).search()
    more = Tuner("random", tmp_path, trials=5)
    more.search()
    assert more.ended == ["3", "4"]
    late = Tuner("random", tmp_path, trials=9, minutes=more.oracle.seconds / 60)
    late.search()
    assert late.ended == [], "time that was spent before it was interrupted counts"


def test_a_trial_whose_worker_goes_on_while_the_chief_was_started_again_ends_once(tmp_path):
    before = Tuner("random", tmp_path)
    trial = before.oracle.create_trial("worker0")
    chief = Tuner("random", tmp_path)
    again = chief.oracle.create_trial("worker1")
    assert again.trial_id == trial.trial_id, "it is taken up again"
    chief.end(trial)
    chief.end(again)
    assert chief.ended == [trial.trial_id]
    chief = Tuner("random", tmp_path)
    chief.search()
    assert len(found(tmp_path)) == NUM_TRIALS["random"]


def test_a_trial_that_would_not_end_in_time_is_not_begun_whoever_trains_beside(tmp_path, monkeypatch):
    """Two workers, ten seconds a trial: whoever asks is at work on none, and counts."""
    now = [0.0]
    monkeypatch.setattr(oracles, "time", SimpleNamespace(monotonic=lambda: now[0]))
    tuner = Tuner("random", tmp_path, minutes=24 / 60)
    first = tuner.oracle.create_trial("worker0")
    now[0] = 5.0
    second = tuner.oracle.create_trial("worker1")
    now[0] = 10.0
    tuner.end(first)
    assert tuner.oracle.create_trial("worker0").status == TrialStatus.RUNNING, "it would end at 20 s"
    now[0] = 15.0
    tuner.end(second)
    assert tuner.oracle.create_trial("worker1").status == TrialStatus.STOPPED, "it would end at 25 s"

    now[0] = 0.0  # goes on: what was spent and what a trial takes is known
    assert Tuner("random", tmp_path, minutes=24 / 60).oracle.create_trial("worker0").trial_id == "02", "taken up again"
    assert json.loads((tmp_path / oracles.STATE).read_text())["trial_seconds"] == {"00": 10.0, "01": 10.0}


def test_what_failed_counts_as_the_worst_and_what_another_worker_trains_as_the_mean(tmp_path, monkeypatch):
    """Left out, what failed would be proposed again; and so would what is being trained."""

    class Asked(Exception):
        pass

    def fit(self, x, y):
        raise Asked(list(y))

    monkeypatch.setattr(GaussianProcessRegressor, "fit", fit)
    tuner, scores = Tuner("bayesian", tmp_path, trials=15), []  # five of them at random
    tuner.oracle.create_trial("worker1")
    failed = tuner.oracle.create_trial("worker0")
    failed.status = TrialStatus.FAILED
    tuner.tuner.on_trial_end(failed)
    for _ in range(3):
        trial = tuner.oracle.create_trial("worker0")
        tuner.end(trial)
        scores.append(trial.score)
    with pytest.raises(Asked) as asked:
        tuner.oracle.create_trial("worker0")
    assert min(scores) < statistics.mean(scores)
    expected = [-statistics.mean(scores), -min(scores), *(-score for score in scores)]
    assert asked.value.args[0] == pytest.approx(expected)


@pytest.mark.parametrize("seed", [2**32 - 2, 2**32 - 1])
def test_the_last_seeds_are_ones_too(seed, tmp_path):
    """NumPy takes seeds below 2**32; what is added for each trial must not leave them."""
    tuner = Tuner("bayesian", tmp_path, seed=seed)
    for _ in range(3):
        tuner.end(tuner.oracle.create_trial("tuner0"))
    assert len(found(tmp_path)) == 3


def test_the_optimum_of_a_process_is_rounded_and_stays_in_its_range(tmp_path):
    tuner = Tuner("bayesian", tmp_path)
    tuner.oracle.hyperparameters = keras_tuner.HyperParameters()
    tuner.oracle.hyperparameters.Float("learning_rate", 1.23444e-3, 1e-1)
    tuner.oracle.hyperparameters.Choice("weight_decay", [0.1234567, 0.2])
    drawn = {"learning_rate": 0.001692826642, "weight_decay": 0.1234567}
    assert tuner.oracle._rounded(drawn) == {"learning_rate": 0.001693, "weight_decay": 0.1234567}
    assert tuner.oracle._rounded({**drawn, "learning_rate": 1.23444e-3})["learning_rate"] == 1.23444e-3
