"""`python -m tuning.confirm`: figures are of the best that there is now."""

import json

import pytest

from keras_perceiver._checks import InputError
from keras_perceiver.training import Run
from tests.tiny import TINY_MODEL, TINY_RECIPE, quiet
from tuning import confirm as confirm_module
from tuning import tuner as tuner_module
from tuning.confirm import confirm


def settle(folder, **model):
    """The files of a search that has found this model."""
    (folder / "config.json").write_text('{"data": "digits"}')
    for arm, other in (("default", {}), ("best", model)):
        settings = {"model": {**TINY_MODEL, **other}, "recipe": {**TINY_RECIPE, "epochs": 1}}
        (folder / f"{arm}.json").write_text(json.dumps(settings))


def test_runs_of_an_earlier_best_or_of_other_epochs_are_not_shown_for_those_of_now(tmp_path, monkeypatch):
    monkeypatch.setattr(tuner_module, "LATENCY_SECONDS", 0.01)
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
