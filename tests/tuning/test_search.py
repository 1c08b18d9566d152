"""`python -m tuning`: the best of some trials, reported; nothing silent."""

import csv
import io
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from keras_perceiver._checks import InputError
from keras_perceiver.data import load_source
from keras_perceiver.models import PRESETS
from keras_perceiver.training import RECIPES, HyperPerceiver, Run, evaluate
from tests.layer_checks import thorough
from tests.tiny import TINY_MODEL, TINY_SEARCH, quiet
from tuning import __main__ as program
from tuning import report, workers
from tuning import tuner as tuner_module
from tuning.oracles import read_trials
from tuning.search import FailedTrials, scope, search


def rows(folder):
    return list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))


@pytest.fixture
def undrawn(monkeypatch):
    """The pictures are looked at in the first test."""
    monkeypatch.setattr(report, "draw", lambda *_: None)


def test_a_search_with_a_recipe_of_the_paper_tunes_the_papers_model_and_says_so(tmp_path, undrawn):
    options = {**TINY_SEARCH, "source": {"image_size": 8}, "base_recipe": "imagenet", "trials": 1}
    search("digits", **options, output=tmp_path / "search", console=quiet())
    for name in ("best.json", "default.json"):
        settings = json.loads((tmp_path / "search" / name).read_text())
        assert (settings["preset"], settings["base_recipe"]) == ("imagenet", "imagenet")


def test_a_search_leaves_its_result_and_goes_on(tmp_path, monkeypatch):
    """A grid of two models, of which one is over a limit: it is not trained, and is no failure."""
    hyper = HyperPerceiver(load_source("digits"), model=TINY_MODEL)
    small, large = (hyper.network({"num_latents": number}).count_params() for number in (3, 5))
    limits = {"parameters": (small + large) // 2}
    options = {**TINY_SEARCH, "space": {"num_latents": [3, 5], "batch_size": [128, 256]}, "tuner": "grid", "trials": 3}
    options |= {"limits": limits, "output": tmp_path / "search"}
    folder, printed, exported = tmp_path / "search", io.StringIO(), []

    def export_run(run, *, shelf, data):
        """In place of an export, which every run can have and tests/training/test_train.py makes."""
        exported.append((run, shelf, data.name))
        return SimpleNamespace(folder=shelf / "digits" / "1")

    with monkeypatch.context() as patched:
        patched.setattr("tuning.search.export_run", export_run)
        results = search("digits", **options, export=True, shelf=tmp_path, console=Console(file=printed, width=200))
    assert exported == [(folder / "best", tmp_path, "digits")]
    assert f"SavedModel: {tmp_path / 'digits' / '1'}" in printed.getvalue()
    over = [r for r in results if r.status == "over a limit"]
    assert {r.trial for r in over} == {r.trial for r in results if r.values["num_latents"] == 5} != set()
    assert {r.reason for r in over} == {f"parameters {large:,}, at most {limits['parameters']:,}"}
    assert not list((folder / "trials").glob(f"trial_{over[0].trial}/*.h5"))
    assert [row["status"] for row in rows(folder)] == [r.status for r in results]

    completed = [r for r in results if r.status == "completed"]
    best = max(completed, key=lambda r: (r.score, -r.latency_ms))
    assert f"best of {len(completed)} trials: {best.trial}, val_accuracy {best.score:.4f}" in printed.getvalue()
    assert "trial 0, 1 of 3" in printed.getvalue()
    assert {path.name for path in folder.glob("*.png")} == {"progress.png", "hyperparameters.png", "latency.png"}
    for said in (f"{best.score:.4f}", over[0].reason):
        assert said in (folder / "report.md").read_text()

    # The best model is a run like any other, with the weights whose score was reported.
    metrics = Run(folder / "best").read_json("metrics.json")
    assert evaluate(folder / "best")["accuracy"] == metrics["accuracy"]

    # What `keras-perceiver train --config` takes (tests/test_readme.py) is the very same configuration.
    known = Run(folder / "best").config()
    settings = json.loads((folder / "best.json").read_text())
    assert settings["recipe"]["batch_size"] == known["training"]["batch_size"] == best.values["batch_size"]
    assert settings["model"].items() <= known["model"].items()
    assert known["model"]["num_latents"] == best.values["num_latents"]

    monkeypatch.setattr(HyperPerceiver, "fit", lambda *_, **__: pytest.fail("a finished trial was trained again"))
    again = search("digits", **options, console=quiet())
    assert [(r.trial, r.score) for r in again] == [(r.trial, r.score) for r in results]
    with pytest.raises(InputError, match="another configuration, which differs in seed: 0 there, 3 here"):
        search("digits", **options, seed=3, console=quiet())


def test_a_failed_trial_is_shown_with_its_reason_and_is_an_error_unless_tolerated(tmp_path, undrawn, monkeypatch):
    def fail(self, hp, model, **kwargs):
        if hp.get("num_latents") == 5:
            raise RuntimeError("no luck today")
        return {"val_accuracy": {2: np.nan, 3: 0.5}[hp.get("num_latents")]}

    monkeypatch.setattr(HyperPerceiver, "fit", fail)
    monkeypatch.setattr("tuning.best.keep_best", lambda tuner, result, folder: (Run(folder), ""))
    monkeypatch.setattr(tuner_module.Search, "on_trial_begin", measured)
    options = {**TINY_SEARCH, "space": {"num_latents": [2, 3, 5]}, "tuner": "grid", "output": tmp_path}
    with pytest.raises(FailedTrials, match=r"2 of 3 trials failed\nfailed: trial 0?1\. val_accuracy must be a number"):
        search("digits", **options, console=quiet())
    printed = io.StringIO()
    search("digits", **options, tolerate_failures=True, console=Console(file=printed, width=200))
    assert "val_accuracy must be a number, and is nan" in printed.getvalue()
    assert ". RuntimeError: no luck today" in printed.getvalue()
    assert [row["score"] for row in rows(tmp_path)] == ["0.5", "", ""]


def test_a_trial_of_which_the_process_dies_is_given_up_and_one_that_was_stopped_is_not(tmp_path, undrawn, monkeypatch):
    class Killed(BaseException):
        """In place of SIGKILL."""

    ends = [KeyboardInterrupt, Killed, Killed]

    def fit(self, hp, model, **kwargs):
        if hp.get("num_latents") == 5:
            raise ends.pop(0)
        return {"val_accuracy": 0.5}

    monkeypatch.setattr(HyperPerceiver, "fit", fit)
    monkeypatch.setattr("tuning.attempts.MOST_DEATHS", 2)
    monkeypatch.setattr("tuning.best.keep_best", lambda tuner, result, folder: (Run(folder), ""))
    monkeypatch.setattr(tuner_module.Search, "on_trial_begin", measured)
    options = {**TINY_SEARCH, "space": {"num_latents": [3, 5]}, "tuner": "grid", "output": tmp_path, "console": quiet()}
    for end in list(ends):
        with pytest.raises(end):
            search("digits", **options)
        assert [row["status"] for row in rows(tmp_path)] == ["completed", "unfinished"]
    results = search("digits", **options, tolerate_failures=True)
    assert [(r.status, r.reason) for r in results[1:]] == [("failed", "its process has died 2 times (unseen)")]


def measured(self, trial):
    """In place of what a training that is left out would have measured."""
    self._facts, self._began = {"parameters": 1, "flops": 1, "latency_ms": 1.0}, time.monotonic()


@pytest.fixture
def labels(tmp_path):
    arrays = {"x_train": np.zeros((40, 8, 8), np.uint8), "y_train": np.tile([[0, 1, 1], [1, 0, 1]], (20, 1))}
    np.savez(tmp_path / "several.npz", **arrays)
    return str(tmp_path / "several.npz")


def test_wrong_input_is_refused_before_anything_is_written(tmp_path, labels, monkeypatch):
    monkeypatch.setattr(HyperPerceiver, "fit", lambda *_, **__: pytest.fail("a trial began"))
    output = tmp_path / "results"

    def refused(match, data="digits", **options):
        with pytest.raises(InputError, match=match):
            search(data, **{**TINY_SEARCH, **options}, output=output, console=quiet())
        assert not output.exists()

    refused("`objective` must be one that the data can give: these have several labels", labels, objective="accuracy")
    refused("`objective` must be one that the data can give: these have one label", objective="mAP")
    none = np.load(labels)["y_train"] * 0
    np.savez(tmp_path / "none.npz", x_train=np.zeros((40, 8, 8), np.uint8), y_train=none)
    refused("no validation example has a label", str(tmp_path / "none.npz"))
    refused("`port` must be given with `workers` alone", port=5000)
    refused("must be one of the known data sets", "digist")
    refused("`tuner` must be one of", tuner="bayes")
    refused("`space` must have a legal point, and has none for `patch_size`", space={"patch_size": [3, 5]})
    refused("Did you mean 'num_latents'", space={"num_latent": [3]})
    refused("`space` must be a JSON file", space=tmp_path / "none.json")
    refused("`max_parameters` must be a finite number above 0", limits={"parameters": 0})
    refused("The limits must leave at least one model of the space.*parameters", limits={"parameters": 10})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused("`port` must be free on 127.0.0.1", workers=2, port=taken.getsockname()[1])
        monkeypatch.setenv(workers.IP, "127.0.0.1")
        refused("KERASTUNER_TUNER_ID` must be set with")
        monkeypatch.setenv(workers.PORT, str(taken.getsockname()[1]))
        monkeypatch.setenv(workers.ID, "chief")
        refused("`port` must be free on 127.0.0.1")
        refused("`workers` must be left out where `KERASTUNER_ORACLE_IP` makes", workers=2)


@pytest.mark.parametrize(
    ("tuner", "trials", "said", "first_epochs"),
    [
        ("grid", 3, ["the first 3 of 44 combinations: what the space names last varies fastest"], None),
        ("grid", 44, [], None),
        ("hyperband", 9, ["of 9 first trials, 1 epochs each, the best go on: with 9 trials none does"], 1),
        ("hyperband", 10, ["of 9 first trials, 1 epochs each, the best go on"], 1),
        ("random", 3, [], None),
    ],
)
def test_how_far_so_many_trials_go_is_said_before_the_first(tuner, trials, said, first_epochs):
    hyper = HyperPerceiver(load_source("digits"), space=TINY_SEARCH["space"], model=TINY_MODEL)
    assert scope(hyper, tuner, trials, 9) == (said, first_epochs)


@pytest.mark.parametrize("name", ["flops", "latency_ms", *thorough("parameters")])  # which the first test has
def test_a_model_over_any_limit_is_not_trained_and_is_no_failure(name, tmp_path, undrawn, monkeypatch):
    """A model costs as much as it has latents, and the largest of three is over the limit."""

    def measure(model, hyper):
        size = model.get_layer("latent_array").num_latents
        return {"parameters": 100 * size, "flops": 100 * size, "latency_ms": 100.0 * size}

    def fit(self, hp, model, *, callbacks, **named):
        for callback in callbacks:
            callback.set_model(model)
            callback.on_epoch_begin(0)
        return {"val_loss": 1.0 / hp.get("num_latents")}

    monkeypatch.setattr(HyperPerceiver, "fit", fit)
    monkeypatch.setattr("tuning.tuner.measure", measure)
    monkeypatch.setattr("tuning.budget.measure", measure)
    monkeypatch.setattr("tuning.best.keep_best", lambda tuner, result, folder: (Run(folder), ""))
    options = {**TINY_SEARCH, "space": {"num_latents": [2, 3, 4]}, "tuner": "grid", "limits": {name: 350}}
    results = search("digits", **options, objective="loss", output=tmp_path, console=quiet())
    assert [(r.values["num_latents"], r.status) for r in results] == [
        (3, "completed"),
        (2, "completed"),
        (4, "over a limit"),
    ]
    assert results[2].reason.startswith(name.replace("_", " "))
    best = json.loads((tmp_path / "best.json").read_text())
    assert best["model"]["num_latents"] == 3, "of losses the lesser is the better"


def test_minutes_must_be_enough_for_one_trial(tmp_path):
    with pytest.raises(InputError, match="`minutes` must be enough for one trial"):
        search("digits", **{**TINY_SEARCH, "epochs": 1000}, minutes=0.001, output=tmp_path / "results", console=quiet())
    assert not (tmp_path / "results").exists()


@pytest.mark.thorough
def test_several_labels_are_searched_by_their_mean_average_precision(labels, undrawn, tmp_path):
    (result,) = search(
        labels, **{**TINY_SEARCH, "space": {"batch_size": [8]}}, trials=1, output=tmp_path / "results", console=quiet()
    )
    assert 0 < result.score <= 1
    assert "mean_average_precision" in Run(tmp_path / "results" / "best").read_json("metrics.json")


@pytest.mark.thorough
def test_hyperband_goes_on_with_the_weights_of_the_best(tmp_path):
    results = search(
        "digits", **{**TINY_SEARCH, "epochs": 3}, tuner="hyperband", trials=4, output=tmp_path, console=quiet()
    )
    assert [r.status for r in results] == ["completed"] * 4
    later = [t for t in read_trials(tmp_path / "trials") if "tuner/trial_id" in t.hyperparameters.values]
    assert later
    assert max(r.score for r in results) > min(r.score for r in results)


@pytest.mark.thorough
def test_the_command_ends_with_its_code_and_one_message(tmp_path, undrawn, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "digits", {**PRESETS["digits"], **TINY_MODEL})
    monkeypatch.setitem(RECIPES, "digits", RECIPES["digits"].replaced(jit_compile=False))

    def run(*words):
        command = typer.Typer()
        command.command()(program.main)
        return CliRunner().invoke(command, ["digits", "--trials", "1", "--epochs", "1", *words])

    wrong = run("--objective", "mAP")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("tuning: `objective` must be one that the data can give")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(HyperPerceiver, "fit", interrupt)
        stopped = run()
    assert stopped.exit_code == 75
    assert stopped.stderr == "tuning: stopped; the same command goes on\n"
    assert [row["status"] for row in rows(tmp_path / "tuning" / "results" / "digits")] == ["unfinished"]
    assert run().exit_code == 0
    assert [row["status"] for row in rows(tmp_path / "tuning" / "results" / "digits")] == ["completed"]


@pytest.mark.thorough
def test_a_search_that_was_killed_goes_on():
    """SIGKILL at a random moment; `python tests/kill_search.py` does it five times, with every tuner."""
    tests = Path(__file__).parent.parent
    command = [sys.executable, str(tests / "kill_search.py"), "--kills", "1", "--trials", "2", "--tuner", "random"]
    environment = {**os.environ, "PYTHONPATH": str(tests.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "random: killed 1 times in 2 trials, the same trials and scores\n"
