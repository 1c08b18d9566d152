"""Every question with real training at the smallest budget: studies must not rot."""

import csv
import json

import numpy as np
import pytest

from keras_perceiver.data import Source, load_source
from keras_perceiver.models import PRESETS
from keras_perceiver.studies import QUESTIONS, study
from keras_perceiver.training import RECIPES
from tests.films import film
from tests.layer_checks import thorough
from tests.sounds import write_sounds
from tests.tiny import TINY_MODEL, TINY_RECIPE, quiet

RECIPE = {**TINY_RECIPE, "epochs": 1, "batch_size": 8}
DEPTH = ["4 cross-attends", "1 cross-attend", "4 cross-attends, all at the start", "4 cross-attends, no latent layers"]


@pytest.fixture
def small(monkeypatch):
    """The smallest Perceivers and recipes of all kinds of data."""
    for name in ("digits", "audio", "video", "points"):
        monkeypatch.setitem(PRESETS, name, {**PRESETS[name], **TINY_MODEL, "cross_attention_head_dim": 4})
        monkeypatch.setitem(RECIPES, name, RECIPES[name].replaced(**RECIPE))


def few_digits():
    """Sixteen pictures for training, eight for each other split."""
    whole, sizes = load_source("digits"), {"train": 16, "validation": 8, "test": 8}
    splits = {name: whole.splits[name].take(np.arange(size)) for name, size in sizes.items()}
    return Source("digits", "image", whole.class_names, splits, preset="digits")


def ask(question, data, folder, seeds=1, **more):
    """The study, checked: every arm is there and finished, and saw as much as the others."""
    result = study(question, data, output=folder, seeds=seeds, console=quiet(), **more)
    assert result.failed == {}
    assert {arm.examples_seen for arm in result.arms} == {16}
    rows = list(csv.DictReader((folder / "study.csv").read_text().splitlines()))
    assert len(rows) == seeds * len(result.arms)
    for arm in result.arms:
        runs = list(folder.glob("*/seed*/config.json"))
        assert len(runs) == len(rows)
        assert len(arm.values) == seeds
        assert (arm.spread is None) == (seeds == 1)
        assert min(arm.parameters, arm.flops, arm.training_seconds, arm.seconds_per_example) > 0
    assert (folder / "study.png").is_file()
    return result


@pytest.mark.parametrize("arms", [DEPTH[1::2], *thorough(DEPTH)], ids=len)
def test_depth_on_handwritten_digits(arms, small, tmp_path):
    result = ask("depth", few_digits(), tmp_path / "study", arms=arms)
    assert {arm.name for arm in result.arms} == set(arms)
    configs = [json.loads(path.read_text()) for path in (tmp_path / "study").glob("*/seed0/config.json")]
    assert {config["training"]["epochs"] for config in configs} == {1}
    assert sorted(config["model"]["num_cross_attends"] for config in configs) == [1, *[4] * (len(arms) - 1)]


@pytest.mark.thorough
@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_on_handwritten_digits(small, tmp_path, question):
    result = ask(question, few_digits(), tmp_path / "study", seeds=2)
    assert set(result.left_out) <= {"resnet50"}, result.left_out
    assert len(result.arms) >= 3


def sounds(folder):
    write_sounds(folder, {"high": 12, "low": 12})
    return {"clip_seconds": 0.15}


def films(folder):
    for i in range(24):
        path = folder / ("short" if i % 2 else "long") / f"{i}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(film("avi", frames=(4 if i % 2 else 9) + i % 5, size=(16, 16)))
    return {"num_frames": 4, "frame_size": 16}


def clouds(folder):
    rng = np.random.default_rng(0)
    for i in range(24):
        path = folder / ("flat" if i % 2 else "round") / f"{i}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, rng.normal(size=(20, 3)) * ([1, 1, 0.1] if i % 2 else 1))
    return {}


@pytest.mark.thorough
@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("write", [sounds, films, clouds])
def test_every_question_on_sounds_films_and_clouds(small, tmp_path, write, question):
    """Networks that are not made for the data are left out; those that are, are there."""
    options = write(tmp_path / "data")
    result = ask(question, str(tmp_path / "data"), tmp_path / "study", source=options)
    assert set(result.left_out) <= {"resnet50"}, result.left_out
    networks = {arm.network for arm in result.arms}
    if question in ("permutation", "baselines"):
        specialised = {"pointnet", "transformer"} if write is clouds else {"resnet18", "vit", "transformer"}
        assert networks >= {"perceiver"} | specialised
    else:
        assert networks == {"perceiver"}


@pytest.mark.thorough
@pytest.mark.parametrize("write", [sounds, clouds, pytest.param(films, marks=pytest.mark.thorough)])
def test_two_arms_on_other_data(small, tmp_path, write):
    """Of sounds raw samples; of clouds a network that sees fewer points."""
    options = write(tmp_path / "data")
    arms = ["pointnet", "transformer of 20 points"] if write is clouds else ["Perceiver", "transformer"]
    preprocess = {"audio_input": "raw"} if write is sounds else None
    result = ask(
        "baselines", str(tmp_path / "data"), tmp_path / "study", source=options, preprocess=preprocess, arms=arms
    )
    assert [arm.name for arm in result.arms] == arms
