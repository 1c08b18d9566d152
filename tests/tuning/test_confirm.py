"""`python -m tuning.confirm`: figures are of the best that there is now."""

import importlib
import json

import pytest
import typer
from typer.testing import CliRunner

from keras_perceiver._checks import InputError
from keras_perceiver.training import Run, Stopped
from tests.tiny import TINY_MODEL, TINY_RECIPE, quiet
from tuning import confirm as confirm_module
from tuning.confirm import confirm

TRAIN = importlib.import_module("keras_perceiver.training.train")


@pytest.fixture
def untrained(monkeypatch):
    """Runs that are whole but for what takes long: tests/test_readme.py trains some."""
    monkeypatch.setattr(TRAIN, "fit", lambda *_, **__: None)
    monkeypatch.setattr(TRAIN, "evaluate_model", lambda *_, **__: {"accuracy": 0.5, "cross_entropy": 1.0})
    monkeypatch.setattr(TRAIN, "_draw", lambda *_: None)
    monkeypatch.setattr(confirm_module, "latency_of", lambda *_: lambda: 1.0)


def settle(folder, **model):
    """The files of a search that has found this model."""
    (folder / "config.json").write_text('{"data": "digits"}')
    for arm, other in (("default", {}), ("best", model)):
        settings = {"model": {**TINY_MODEL, **other}, "recipe": {**TINY_RECIPE, "epochs": 1}}
        (folder / f"{arm}.json").write_text(json.dumps(settings))


def test_runs_of_an_earlier_best_or_of_other_epochs_are_not_shown_for_those_of_now(tmp_path, untrained, monkeypatch):
    settle(tmp_path, num_latents=2)
    figures = confirm(tmp_path, seeds=1, console=quiet())
    monkeypatch.setattr(confirm_module, "train", lambda *_, **__: pytest.fail("a run was begun"))
    assert confirm(tmp_path, seeds=1, console=quiet()) == figures

    with pytest.raises(InputError, match=r"differs in training.epochs: 1 there, 2 here\. .*ask for the same `epochs`"):
        confirm(tmp_path, seeds=1, epochs=2, console=quiet())
    settle(tmp_path, num_latents=5)
    said = r"best/seed0'.* differs in model.num_latents: 2 there, 5 here\. .*another best since\. Remove '"
    with pytest.raises(InputError, match=said):
        confirm(tmp_path, seeds=3, console=quiet())
    assert Run(tmp_path / "confirmation" / "best" / "seed0").config()["model"]["num_latents"] == 2


def test_a_confirmation_that_is_stopped_says_that_it_goes_on(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise Stopped("stopped by SIGTERM: the same command goes on")

    settle(tmp_path, num_latents=2)
    monkeypatch.setattr(confirm_module, "train", stop)
    command = typer.Typer()
    command.command()(confirm_module.main)
    result = CliRunner().invoke(command, [str(tmp_path)])
    assert (result.exit_code, result.stderr) == (75, "tuning: stopped by SIGTERM: the same command goes on\n")
