"""A study: all arms and seeds once, whatever kills it; the figures are those of its runs."""

import csv
import importlib
import io
import json
import types

import keras
import numpy as np
import pytest
from rich.console import Console

from keras_perceiver._checks import InputError
from keras_perceiver.data import Source, Split
from keras_perceiver.data.points import points_dtype
from keras_perceiver.models import PRESETS
from keras_perceiver.studies import study
from keras_perceiver.studies.costs import Costs, read_costs
from keras_perceiver.training import RECIPES, Run
from keras_perceiver.training.configuration import configuration
from keras_perceiver.training.memory import PeakMemory
from tests.tiny import TINY_MODEL, TINY_RECIPE

MODULE = importlib.import_module("keras_perceiver.studies.study")  # behind the function of the same name
ARMS = ["1 cross-attend", "2 cross-attends"]
ACCURACY = {"1-cross-attend": (0.5, 0.75, 0.25), "2-cross-attends": (0.25, 0.5, 0.5)}


@pytest.fixture
def trained(monkeypatch):
    """What is trained, one after the other, by a stand-in that leaves what `train` and `Costs` leave."""
    monkeypatch.setitem(PRESETS, "digits", {**PRESETS["digits"], **TINY_MODEL})
    monkeypatch.setitem(RECIPES, "digits", RECIPES["digits"].replaced(**TINY_RECIPE))
    calls = []

    def train(source, *, output, shelf, seed, network, preprocess, preset, model, recipe, callbacks, console):
        arm = output.parent.name
        calls.append((arm, seed))
        run = Run(output)
        run.claim(configuration(source, seed, network, model, recipe, preset=preset))
        costs = {"epoch_seconds": [9.0, 1.0 + seed, 1.0], "peak_bytes": 10**6 * (1 + seed)}
        (output / "costs.json").write_text(json.dumps(costs))
        run.write_json("metrics.json", {"accuracy": ACCURACY[arm][seed], "seconds": 120.0})

    monkeypatch.setattr(MODULE, "train", train)
    return calls


def ask(folder, *, seeds=2, arms=ARMS, question="depth", data="digits", **more):
    text = io.StringIO()
    console = Console(file=text, width=200)
    result = study(question, data, output=folder, seeds=seeds, arms=arms, console=console, **more)
    return result, text.getvalue()


def test_figures_are_those_of_the_runs(trained, tmp_path):
    result, said = ask(tmp_path / "study")
    assert trained == [(arm, seed) for seed in (0, 1) for arm in sorted(ACCURACY, reverse=True)]
    first, second = (next(arm for arm in result.arms if arm.name == name) for name in ARMS)
    assert first.values == {0: 0.5, 1: 0.75}
    assert first.mean == 0.625
    assert first.spread == pytest.approx(0.25 / np.sqrt(2))
    assert (second.mean, second.num_inputs, second.model["num_cross_attends"]) == (0.375, 64, 2)
    assert first.flops < second.flops
    assert first.parameters < second.parameters
    assert first.examples_seen == second.examples_seen == 3 * 10 * 128
    assert first.training_seconds == (11 + 12) / 2
    assert first.seconds_per_example == 1.5 / 1280  # the median of 9, 1, 1, 9, 2, 1
    assert first.peak_bytes == 2_000_000
    assert "run 1 of 4:" in said
    assert "run 4 of 4, about 2 min left: 1 cross-attend, seed 1" in said


def test_it_leaves_tables_that_agree_and_a_picture(trained, tmp_path):
    result, _ = ask(tmp_path / "study", seeds=1)
    assert {path.name for path in (tmp_path / "study").iterdir()} == {
        *("config.json", "study.md", "study.csv", "study.json", "study.png"),
        *("1-cross-attend", "2-cross-attends"),
    }
    text = (tmp_path / "study" / "study.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| 1 cross-attend |"))
    assert row.split(" | ")[1:4] == ["50.00%", "", "1"]
    assert "3,840 examples; figures are of 360 test examples" in text
    rows = list(csv.DictReader((tmp_path / "study" / "study.csv").read_text().splitlines()))
    assert {row["arm"]: float(row["accuracy"]) for row in rows} == {ARMS[0]: 0.5, ARMS[1]: 0.25}
    saved = json.loads((tmp_path / "study" / "study.json").read_text())
    assert [arm["mean"] for arm in saved["arms"]] == [arm.mean for arm in result.arms]
    assert (tmp_path / "study" / "study.png").read_bytes().startswith(b"\x89PNG")


def test_a_killed_study_goes_on_and_more_seeds_and_arms_are_added(trained, tmp_path, monkeypatch):
    train = MODULE.train

    def killed(source, *, output, **settings):
        if len(trained) == 3:
            raise KeyboardInterrupt
        train(source, output=output, **settings)

    monkeypatch.setattr(MODULE, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        ask(tmp_path / "study")
    table = (tmp_path / "study" / "study.md").read_text()
    assert "| 1 cross-attend | 50.00% |" in table  # what is known stands there already
    monkeypatch.setattr(MODULE, "train", train)
    before = list(trained)
    result, _ = ask(tmp_path / "study")
    assert trained == [*before, ("1-cross-attend", 1)]
    assert [len(arm.values) for arm in result.arms] == [2, 2]
    again, _ = ask(tmp_path / "study")
    assert again == result
    assert len(trained) == 4
    more, _ = ask(tmp_path / "study", seeds=3, arms=ARMS[:1])
    assert trained[4:] == [("1-cross-attend", 2)]
    values = {arm.name: arm.values for arm in more.arms}  # of all that there is
    assert values == {ARMS[0]: {0: 0.5, 1: 0.75, 2: 0.25}, ARMS[1]: {0: 0.25, 1: 0.5}}
    fewer, _ = ask(tmp_path / "study", seeds=1, arms=ARMS[1:])
    assert len(trained) == 5
    assert fewer.arms == more.arms


def test_a_study_with_other_settings_is_refused_with_what_differs(trained, tmp_path):
    ask(tmp_path / "study", seeds=1, arms=ARMS[:1])
    for change, message in (
        ({"recipe": {"epochs": 7}}, "holds a study with another configuration.*training.epochs: 3 there, 7 here"),
        ({"question": "latents", "arms": None}, "question: 'depth' there, 'latents' here"),
    ):
        with pytest.raises(InputError, match=message):
            ask(tmp_path / "study", **{"arms": ARMS[:1], **change})
    PRESETS["digits"]["num_latents"] = 5  # the package itself may have changed
    with pytest.raises(InputError, match=r"model\.num_latents: 3 there, 5 here"):
        ask(tmp_path / "study", arms=ARMS[:1])
    assert len(trained) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "dept"}, "`question` must be one of .*Did you mean 'depth'"),
        ({"arms": ["2 cross-atends"]}, "`arm` must be one of .*Did you mean '2 cross-attends'"),
        ({"seeds": 0}, "`seeds` must be an integer of at least 1"),
        ({"recipe": {"patience": 3}}, "`patience` must not be in the `recipe` of a study"),
        ({"preset": "video"}, "`preset` must be a model for the modality"),
        (
            {"question": "permutation", "preset": "imagenet_permuted", "arms": None},
            "'permutation' must be asked of a model that takes its inputs in their order.*permute_seed=0",
        ),
        ({"preset": "audioset_mel"}, "`preset` must be a model for the modality .*takes='audio', data='image'"),
        ({"preset": "digit"}, "`preset` must be one of .*Did you mean 'digits'"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_written(trained, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        ask(tmp_path / "study", **change)
    assert not (tmp_path / "study").exists()


def test_arms_that_cannot_be_built_are_left_out_and_said(trained, tmp_path):
    arms = ["Perceiver", "Perceiver, permuted", "transformer of 5 points"]
    clouds = cloud_source()
    ACCURACY.update(dict.fromkeys(("Perceiver", "Perceiver-permuted"), (0.5,)))
    result, said = ask(tmp_path / "study", question="permutation", data=clouds, seeds=1, arms=arms)
    assert [arm.name for arm in result.arms] == arms[:2]
    name = "transformer of 5 points"
    assert "without other options" in result.left_out[name]  # a `Source` has its points
    assert said.splitlines()[0].startswith(f"left out: {name}.")
    assert f"Left out: {name}." in (tmp_path / "study" / "study.md").read_text()
    with pytest.raises(InputError, match=r"At least two arms of 'baselines' must fit the data.*without other options"):
        ask(tmp_path / "other", question="baselines", data=clouds, arms=["pointnet", name])
    assert not (tmp_path / "other").exists()


def cloud_source():
    examples = np.zeros(64, points_dtype((5, 3)))
    split = Split(examples, (np.arange(64) % 2).astype(np.int32), tuple(map(str, range(64))))
    splits = dict.fromkeys(("train", "validation", "test"), split)
    return Source("clouds", "points", ("a", "b"), splits, preset="points", shape=(5, 3))


def test_a_run_that_fails_is_said_and_the_others_go_on(trained, tmp_path, monkeypatch):
    train = MODULE.train

    def failing(source, *, output, **settings):
        if output.parent.name == "2-cross-attends":
            raise InputError("the loss is not finite")
        train(source, output=output, **settings)

    monkeypatch.setattr(MODULE, "train", failing)
    result, said = ask(tmp_path / "study", seeds=1)
    assert [arm.name for arm in result.arms] == ["1 cross-attend"]
    assert result.failed == {"2 cross-attends, seed 0": "the loss is not finite"}
    assert "failed: the loss is not finite" in said
    with pytest.raises(InputError, match=r"At least one run must end well\. 2 cross-attends, seed 0: the loss"):
        ask(tmp_path / "other", seeds=1, arms=ARMS[1:])


def test_costs_of_a_run_that_goes_on_are_those_of_all_its_epochs(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    arrays = np.ones((4, 2)), np.ones((4, 1))
    path = tmp_path / "costs.json"
    model.fit(*arrays, epochs=3, batch_size=1, callbacks=[Costs(path, 4)], verbose=0)
    first = read_costs(path)
    model.fit(*arrays, epochs=4, batch_size=1, initial_epoch=2, callbacks=[Costs(path, 4)], verbose=0)
    second = read_costs(path)
    assert len(first["epoch_seconds"]) == 3
    assert second["epoch_seconds"][:2] == first["epoch_seconds"][:2]
    assert len(second["epoch_seconds"]) == 4
    assert min(second["epoch_seconds"]) > 0
    assert second["peak_bytes"] is None or second["peak_bytes"] >= first["peak_bytes"]


def test_an_epoch_of_which_a_run_has_seen_the_end_alone_is_as_long_as_a_whole_one(tmp_path, monkeypatch):
    """Half of eight steps, in four seconds: eight seconds for all."""
    costs, clock = Costs(tmp_path / "costs.json", 8), iter((10.0, 14.0))
    monkeypatch.setattr("keras_perceiver.studies.costs.time.monotonic", lambda: next(clock))
    costs.set_model(types.SimpleNamespace(steps_per_execution=2))
    costs.on_train_begin()
    costs.on_epoch_begin(0)
    for batch in (1, 3):
        costs.on_train_batch_end(batch)
    costs.on_epoch_end(0)
    assert read_costs(tmp_path / "costs.json")["epoch_seconds"] == [8.0]


def test_peak_memory_is_what_was_held_since_it_was_asked_and_no_more():
    memory = PeakMemory()
    if memory.measure() is None:
        pytest.skip("the system does not tell")
    held = np.ones(25_000_000)
    del held
    assert 190e6 < memory.measure() < 300e6
    assert PeakMemory().measure() < 50e6
