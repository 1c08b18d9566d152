"""The folder of a run: who may use it, and that nothing in it is ever half written."""

import dataclasses

import pytest

from keras_perceiver._checks import InputError
from keras_perceiver.data import Problem, Report, Source
from keras_perceiver.training.runs import Run, differences

CONFIG = {"data": "digits", "model": {"num_latents": 7, "input_shape": (8, 8, 1)}, "seed": 0}


def test_an_unfinished_run_of_the_same_configuration_goes_on(tmp_path):
    Run(tmp_path / "run").claim(CONFIG)
    Run(tmp_path / "run").claim(CONFIG)
    assert Run(tmp_path / "run").config()["seed"] == 0


def test_a_run_of_another_configuration_is_refused_with_what_differs(tmp_path):
    Run(tmp_path).claim(CONFIG)
    other = {**CONFIG, "model": {**CONFIG["model"], "num_latents": 11}}
    with pytest.raises(InputError, match=r"differs in model.num_latents: 7 there, 11 here. Choose another folder"):
        Run(tmp_path).claim(other)
    assert Run(tmp_path).config()["model"]["num_latents"] == 7


def test_a_finished_run_is_refused(tmp_path):
    run = Run(tmp_path)
    run.claim(CONFIG)
    run.write_json("metrics.json", {"accuracy": 0.5})
    with pytest.raises(InputError, match=r"holds this very run, finished. .*evaluate"):
        Run(tmp_path).claim(CONFIG)


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match=r"must be empty or hold an unfinished run. .*thesis.txt"):
        Run(tmp_path).claim(CONFIG)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(
        InputError, match=r"`output` must be a folder that can be written to. Received: output=.*exists"
    ):
        Run(tmp_path / "run").claim(CONFIG)


@pytest.mark.parametrize("content", [None, "{"])
def test_what_is_no_run_is_refused_by_name(tmp_path, content):
    if content:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config.json"):
        Run(tmp_path).config()


def test_what_was_skipped_is_written_for_spreadsheets_and_goes_when_nothing_is(tmp_path):
    source = Source("data", "image", ("a", "b"), {}, report=Report((Problem("broken file", "=1+1.png", "-x"),)))
    Run(tmp_path).write_data(source)
    assert (tmp_path / "skipped.csv").read_text().splitlines() == ["kind,path,reason", "broken file,'=1+1.png,'-x"]
    Run(tmp_path).write_data(dataclasses.replace(source, report=Report()))
    assert not (tmp_path / "skipped.csv").exists()


def test_history_is_written_whole(tmp_path):
    run = Run(tmp_path)
    run.write_history([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    assert (tmp_path / "history.csv").read_text().split() == ["epoch,loss", "1,0.5", "2,0.25"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["history.csv", "history.jsonl"]


def test_differences_name_nested_leaves():
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 5}, "e": 4}
    assert differences(old, new) == [("a.c", 2, 5), ("d", 3, None), ("e", None, 4)]
