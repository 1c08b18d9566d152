"""The command: complete help, one clear message and exit code 2 for wrong input, and no more on stderr."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from keras_perceiver import training
from keras_perceiver.cli import app
from keras_perceiver.data import load_source
from tests.pictures import write_picture, write_pictures
from tests.tiny import TINY_OPTIONS

VERBS = ("train", "inspect", "evaluate", "predict", "export", "benchmark", "describe", "models", "study", "attend")


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def refused(result, *parts):
    """Exit code 2, nothing on stdout, and one line that says what is wrong."""
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("keras-perceiver: ")
    for part in parts:
        assert part in lines[0]


def test_help_names_every_verb_and_each_explains_itself():
    result = run("--help")
    assert result.exit_code == 0
    for verb in VERBS:
        assert verb in result.stdout
        assert run(verb, "--help").exit_code == 0


@pytest.fixture
def pictures(tmp_path):
    split = load_source("digits").splits["test"]
    files = []
    for index in range(3):
        image = split.examples[index, ..., 0].repeat(4, axis=0).repeat(4, axis=1)
        files.append(tmp_path / f"{index}.png")
        Image.fromarray(image).save(files[-1])
    return files


def test_predict_prints_the_best_classes_of_each_picture(tiny_run, pictures):
    export = tiny_run.read_json("metrics.json")["export"]
    answers = json.loads(run("predict", export, *pictures, "--top", 2, "--json").stdout)
    assert [answer["file"] for answer in answers] == [str(p) for p in pictures]
    table = run("predict", export, *pictures, "--top", 2)
    assert table.exit_code == 0
    for answer in answers:
        assert len(answer["classes"]) == 2
        assert answer["probabilities"] == sorted(answer["probabilities"], reverse=True)
        for name, probability in zip(answer["classes"], answer["probabilities"], strict=True):
            assert name in table.stdout
            assert f"{probability:.2%}" in table.stdout


def test_evaluate_prints_the_figures_of_the_run(tiny_run):
    metrics = tiny_run.read_json("metrics.json")
    printed = json.loads(run("evaluate", tiny_run.folder, "--json").stdout)
    assert printed == {name: metrics[name] for name in printed}
    assert f"accuracy {metrics['accuracy']:.2%}" in run("evaluate", tiny_run.folder).stdout


def test_describe_prints_the_papers_figures():
    assert json.loads(run("describe", "imagenet", "--json").stdout)["parameters"] == 44_912_254
    table = run("describe", "imagenet").stdout
    assert "44,912,254" in table
    assert "cross_attention_2" in table
    assert run("describe", "digits").exit_code == 0


def test_models_lists_every_model_with_its_size_and_what_is_ours():
    found = {row["name"]: row for row in json.loads(run("models", "--json").stdout)}
    assert found["imagenet"]["parameters"] == 44_912_254
    assert "release" in found["audioset_video"]["choices"]["latent_dim"]
    assert found["tiny"]["source"] == "ours"


def test_inspect_prints_counts_and_what_is_wrong_and_draws_a_sheet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "animals", {"cat": 9, "[red]dog": 8})
    (tmp_path / "animals" / "cat" / "te\x1bxt.png").write_text("no picture")
    result = run("inspect", "animals")
    assert result.exit_code == 0
    for part in ("[red]dog", "6 x 5 (17)", "skipped 1 (broken file)", "te\\x1bxt.png", "inspections/animals/sheet.png"):
        assert part in result.stdout
    assert "\x1b" not in result.stdout
    assert (tmp_path / "inspections" / "animals" / "sheet.png").is_file()
    found = json.loads(run("inspect", "animals", "--output", "seen", "--image-size", 3, "--json").stdout)
    assert found["enters_as"] == "3 x 3 x 1"
    assert found["sheet"] == "seen/sheet.png"
    refused(run("inspect", "animals", "--strict"), "nothing may be skipped", "te\\x1bxt.png")


def test_train_evaluate_and_predict_on_a_folder(tmp_path, monkeypatch):
    """The way of somebody with a folder of pictures, classes apart by how bright they are."""
    monkeypatch.chdir(tmp_path)
    for i in range(24):
        write_picture(tmp_path / "my sky" / ("night" if i % 2 else "day") / f"{i}.png", i if i % 2 else 255 - i)
    (tmp_path / "my sky" / "day" / "text.png").write_text("no picture")
    options = [*TINY_OPTIONS, "--batch-size", 8, "--patch-size", 1, "--permute-pixels", 5, "--cut-mix", 0.5]
    result = run("train", "my sky", "--seed", 2, *options)
    assert result.exit_code == 0, result.stderr
    assert "skipped 1 (broken file): day/text.png" in result.stdout
    folder = tmp_path / "runs" / "my-sky-seed2"
    assert "day/text.png" in (folder / "skipped.csv").read_text()
    assert len((folder / "splits.csv").read_text().splitlines()) == 25
    config = json.loads((folder / "config.json").read_text())
    assert config["preprocess"] == {"permute_seed": 5}
    assert config["source"]["class_names"] == ["day", "night"]
    write_picture(tmp_path / "my sky" / "night" / "added later.png", 3)
    metrics = json.loads((folder / "metrics.json").read_text())
    printed = json.loads(run("evaluate", folder, "--json").stdout)
    assert printed == {name: metrics[name] for name in printed}
    (answer,) = json.loads(run("predict", "saved_models/my-sky", "my sky/day/0.png", "--json").stdout)
    assert sorted(answer["classes"]) == ["day", "night"]
    refused(run("train", "my sky", "--stem", "convolution"), "Did you mean 'conv'?")


def test_an_unknown_data_set_is_refused_with_the_nearest_name():
    refused(run("train", "digist"), "data='digist'", "Did you mean 'digits'?")


def test_a_run_that_is_stopped_says_so_and_ends_with_a_code_of_its_own(monkeypatch):
    def stopped(*_, **__):
        raise training.Stopped("stopped by SIGTERM after step 3 of epoch 2")

    monkeypatch.setattr(training, "train", stopped)
    result = run("train", "digits")
    assert result.exit_code == 75
    assert result.stderr == "keras-perceiver: stopped by SIGTERM after step 3 of epoch 2\n"


def test_a_size_that_does_not_divide_is_refused(tmp_path):
    refused(run("train", "digits", "--latent-dim", 33, "--output", tmp_path / "run"), "latent_dim=33")
    assert not (tmp_path / "run").exists()


def test_an_output_folder_that_holds_another_run_is_refused(tiny_run):
    options = ["--output", tiny_run.folder, "--seed", 4, *TINY_OPTIONS]
    refused(run("train", "digits", *options), "seed: 3 there, 4 here", "--output")


def test_an_unreadable_picture_is_refused_and_beside_others_it_is_named(tiny_run, pictures, tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    export = tiny_run.read_json("metrics.json")["export"]
    refused(run("predict", export, tmp_path / "a.png"), "a.png", "readable picture")
    result = run("predict", export, tmp_path / "a.png", pictures[0], "--json")
    assert result.exit_code == 2
    broken, answer = json.loads(result.stdout)
    assert broken["classes"] == []
    assert len(answer["classes"]) == 3
    assert "a.png" in result.stderr
    assert "1 of 2 files could not be read" in result.stderr


def test_a_folder_that_is_no_saved_model_is_refused(tmp_path):
    refused(run("predict", tmp_path, "a.png"), str(tmp_path), "folder of a SavedModel")


def test_what_is_no_run_and_no_model_is_refused(tmp_path):
    refused(run("evaluate", tmp_path), str(tmp_path), "config.json")
    refused(run("describe", "imagenette"), "Did you mean 'imagenet'")


def test_missing_and_unknown_options_end_with_code_2():
    assert run("train").exit_code == 2
    assert run("train", "digits", "--no-such-option").exit_code == 2


def test_the_installed_command_says_nothing_but_its_message():
    """In a fresh process: TensorFlow's notes of its own start-up stay out."""
    command = [sys.executable, "-c", "from keras_perceiver_command import main; main()", "train", "digist"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("keras-perceiver: `data` must be one of the known data sets")


def test_predictions_of_the_command_depend_on_the_picture(tiny_run, pictures):
    export = tiny_run.read_json("metrics.json")["export"]
    rows = [answer["probabilities"] for answer in json.loads(run("predict", export, *pictures, "--json").stdout)]
    assert len(np.unique(rows, axis=0)) == len(pictures)


def test_help_keeps_what_stands_in_angle_brackets(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # one line for each option
    said = run("train", "--help").stdout
    assert "<class>/<file>, or with a labels.csv" in said
    assert "<shelf>/<name>/<version>/" in said
