"""`python -m tuning`: the best of some trials, reported; nothing silent."""

import json
import subprocess
import sys

import keras_tuner
import numpy as np
import pytest

from keras_perceiver._checks import InputError
from keras_perceiver.models import PRESETS
from keras_perceiver.training import RECIPES, HyperPerceiver, Recipe
from tests.tiny import TINY_MODEL, TINY_RECIPE, quiet
from tuning import search as search_module
from tuning.search import FailedTrials, search

TINY = Recipe(learning_rate=2e-3, **TINY_RECIPE)


@pytest.fixture
def tiny_digits(monkeypatch):
    """A search space around a tiny model."""
    monkeypatch.setitem(PRESETS, "digits", {**PRESETS["digits"], **TINY_MODEL})
    monkeypatch.setitem(search_module.RECIPES, "digits", TINY)


def test_a_search_reports_the_best_of_its_trials_and_goes_on(tiny_digits, tmp_path, monkeypatch):
    best = search("digits", trials=2, epochs=1, output=tmp_path, console=quiet())
    trials = [json.loads(p.read_text()) for p in (tmp_path / "trials").glob("trial_*/trial.json")]
    assert [t["status"] for t in trials] == ["COMPLETED"] * 2
    scores = {t["score"]: t["hyperparameters"]["values"] for t in trials}
    assert best == scores[max(scores)]
    saved = json.loads((tmp_path / "best.json").read_text())
    assert saved == {"val_accuracy": max(scores), "hyperparameters": best}

    monkeypatch.setattr(HyperPerceiver, "build", lambda *_: pytest.fail("a finished trial was trained again"))
    assert search("digits", trials=2, epochs=1, output=tmp_path, console=quiet()) == best
    with pytest.raises(InputError, match="holds another search, which differs in trials: 2 there, 3 here"):
        search("digits", trials=3, epochs=1, output=tmp_path, console=quiet())


def test_a_failed_trial_is_reported_with_its_reason(tiny_digits, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no luck today")

    monkeypatch.setattr(HyperPerceiver, "build", fail_after_first(HyperPerceiver.build, fail))
    with pytest.raises(FailedTrials, match=r"(?s)2 of 2 trials failed.*no luck today"):
        search("digits", trials=2, epochs=1, output=tmp_path, console=quiet())


def fail_after_first(build, fail):
    """KerasTuner builds one model to learn the space; what fails after that is a trial."""
    calls = []

    def wrapped(self, hp):
        calls.append(hp)
        return build(self, hp) if len(calls) == 1 else fail()

    return wrapped


def test_every_point_of_the_space_is_a_legal_model_and_the_default_is_the_preset():
    hyper = HyperPerceiver(PRESETS["digits"], RECIPES["digits"], steps_per_epoch=7)
    hp = keras_tuner.HyperParameters()
    default = hyper.build(hp)
    assert default.get_layer("latent_array").latent_dim == PRESETS["digits"]["latent_dim"]
    assert default.get_layer("latent_array").num_latents == PRESETS["digits"]["num_latents"]
    for heads in hp._hps["num_self_attention_heads"][0].values:
        for head_dim in hp._hps["head_dim"][0].values:
            hp.values.update(num_self_attention_heads=heads, head_dim=head_dim)
            assert hyper.build(hp).get_layer("latent_array").latent_dim == heads * head_dim


def test_the_program_refuses_an_unknown_data_set():
    result = subprocess.run([sys.executable, "-m", "tuning", "digist"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "tuning: `data` must be one of the known data sets: digits, tfds:NAME" in result.stderr
    assert "Traceback" not in result.stderr


def test_several_labels_an_example_are_refused_before_anything_is_written(tmp_path):
    arrays = {"x_train": np.zeros((40, 6, 5), np.uint8), "y_train": np.ones((40, 3), np.int32)}
    np.savez(tmp_path / "several.npz", **arrays)
    with pytest.raises(InputError, match="Each example must have one label"):
        search(str(tmp_path / "several.npz"), trials=1, epochs=1, output=tmp_path / "results", console=quiet())
    assert not (tmp_path / "results").exists()
