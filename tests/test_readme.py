"""Every command and every block of Python in a document works as it stands there.

A command that takes minutes runs at a tiny budget: the same verb, the same arguments, and smaller
sizes behind them.
"""

import csv
import importlib
import json
import re
import shlex
import shutil
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from tiny_tfds import prepare
from typer.testing import CliRunner

from keras_perceiver.cli import app
from keras_perceiver.data.service import running_service
from keras_perceiver.data.source import slug
from keras_perceiver.models import PRESETS
from keras_perceiver.training import RECIPES, Run, StopRequest
from tests.pictures import write_pictures
from tests.tiny import TINY_MODEL, TINY_RECIPE, tiny_options
from tuning import __main__ as tuning_main
from tuning import confirm as confirm_main

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "saved_models/README.md", "tuning/README.md", "CONTRIBUTING.md")


def blocks(language):
    """The code blocks of all documents: a list of (document, text)."""
    pattern = rf"```{language}\n(.*?)```"
    return [(d, text) for d in DOCUMENTS for text in re.findall(pattern, (ROOT / d).read_text(), re.DOTALL)]


def commands():
    """Every command line of the documents, comments taken off: `a && b` is two commands."""
    lines = [line.split(" #")[0] for _, text in blocks("bash") for line in text.splitlines()]
    for document in DOCUMENTS:
        lines += re.findall(r"`((?:keras-perceiver|python -m tuning) [a-z][^`]*)`", (ROOT / document).read_text())
    parts = {part.strip() for line in lines for part in re.split(r"&&|;\s*done|;\s*do\b", line)}
    return sorted({part.removeprefix(".venv/bin/") for part in parts} - {""})


def is_release(command):
    """Whether a command belongs to the road of one release, whose steps follow each other."""
    return "keras-perceiver serve-config" in command or " > " in command


@pytest.fixture
def users_folder(tiny_run, tmp_path, monkeypatch):
    """A folder as the README's reader has it after the first command."""
    (tmp_path / "saved_models").mkdir()
    shutil.copytree(tiny_run.read_json("metrics.json")["export"], tmp_path / "saved_models" / "digits" / "1")
    (tmp_path / "saved_models" / "photos").symlink_to(tmp_path / "saved_models" / "digits")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "digits-seed0").symlink_to(tiny_run.folder)
    (tmp_path / "tuning" / "results" / "digits").mkdir(parents=True)
    (tmp_path / "tuning" / "results" / "digits" / "best").symlink_to(tiny_run.folder)
    for name in ("picture.png", "scan.png"):
        Image.fromarray(np.eye(16, dtype=np.uint8) * 255).save(tmp_path / name)
    write_pictures(tmp_path / "photos", {"cat": 20, "dog": 20})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        c
        for c in commands()
        if re.search("keras-perceiver (?!train|study|launch|data-service)", c) and not is_release(c)
    ],
)
def test_commands_of_the_documents(command, users_folder):
    words = shlex.split(command)
    assert Path(words[0]).name == "keras-perceiver"
    # A model that has learned next to nothing has answers near the edge: rounding may move some.
    result = CliRunner().invoke(app, [*words[1:], *(["--max-points-lost=5"] if "litert" in words else [])])
    assert result.exit_code == 0, result.stderr
    assert result.stdout


def test_a_release_as_in_the_documents(users_folder):
    """In the order of the document: what is exported, measured, loaded, moved forward and back."""
    shelf = users_folder / "saved_models"
    lines = [
        line.split(" #")[0].strip() for _, text in blocks("bash") for line in text.splitlines() if is_release(line)
    ]
    assert len(lines) >= 7
    for line in lines:
        command, _, output = line.partition(" > ")
        if "--canary digits=2" in line:
            shutil.copytree(shelf / "digits" / "1", shelf / "digits" / "2")  # what `export` has made
        words = [*shlex.split(command)[1:], *(["--seconds=0.01"] if "keras-perceiver benchmark " in command else [])]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.stderr
        if output:
            (users_folder / output).write_text(result.stdout)
    assert "stable" in (shelf / "models.config").read_text()


def training_commands():
    """Without those that a longer one begins with, which runs them."""
    known = [c for c in commands() if "keras-perceiver train" in c]
    return [c for c in known if not any(other.startswith(f"{c} ") for other in known)]


@pytest.mark.parametrize("command", training_commands())
def test_training_commands_of_the_documents_at_a_tiny_budget(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    is_exported = command == training_commands()[0]  # one command for all: exports take long
    if not is_exported:
        module = importlib.import_module("keras_perceiver.training.train")  # behind the function of the same name
        monkeypatch.setattr(module, "export_once", lambda *_, shelf: Path(shelf))
    words = shlex.split(command.replace("$seed", "1"))
    data = words[words.index("train") + 1]
    few = [] if data == "digits" else ["--batch-size", "8", "--epochs", "1"]  # of tiny stand-ins for real data
    if "--recipe imagenet" in command:
        few += ["--image-size", "16"]  # in place of 224: minutes
    if data == "photos":
        write_pictures(tmp_path / "photos", {"cat": 20, "dog": 20})
    if "--config" in words:
        path = tmp_path / words[words.index("--config") + 1]
        path.parent.mkdir(parents=True)
        path.write_text('{"recipe": {"learning_rate": 0.002}}')
    if data == "tfds:fashion_mnist":
        prepare(tmp_path / "datasets")
    network = words[words.index("--network") + 1] if "--network" in words else "perceiver"
    before = sorted(tmp_path.iterdir())
    with running_service(0) if "--data-service" in words else nullcontext() as address:
        words = [address if option == "--data-service" else word for option, word in pairwise(["", *words])]
        result = CliRunner().invoke(app, [*words[words.index("train") :], *tiny_options(network), *few])
    assert result.exit_code == 0, result.stderr
    if "--dry-run" in words:
        assert "without validation" in result.stdout
        assert sorted(tmp_path.iterdir()) == before
        return
    name = data.removeprefix("tfds:") + ("" if network == "perceiver" else f"-{network}")
    assert not is_exported or list((tmp_path / "saved_models" / name).iterdir())
    assert list((tmp_path / "runs").glob(f"{name}-seed*/metrics.json"))


@pytest.mark.parametrize("command", [c for c in commands() if "keras-perceiver launch" in c])
def test_launches_of_the_documents_at_a_tiny_budget(command, tmp_path, monkeypatch, capfd):
    """Two real workers: one run folder and one export, as one process leaves them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    result = CliRunner().invoke(app, [*shlex.split(command)[1:], *tiny_options()])
    printed = capfd.readouterr()
    assert result.exit_code == 0, printed.err[-3000:]
    assert "2 replicas, each with 64 examples of a batch, without XLA" in printed.out
    run = Run(tmp_path / "runs" / "digits-seed0")
    assert f"accuracy {run.read_json('metrics.json')['accuracy']:.2%}" in printed.out
    assert len((run.folder / "history.csv").read_text().splitlines()) == 4
    assert len(list((tmp_path / "saved_models" / "digits").iterdir())) == 1
    assert not run.checkpoint_folder.exists()


@pytest.mark.parametrize("command", [c for c in commands() if "keras-perceiver data-service" in c])
def test_data_services_of_the_documents_start_and_stop(command, monkeypatch):
    monkeypatch.setattr(StopRequest, "__enter__", lambda self: setattr(self, "name", "SIGTERM") or self)
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.stderr
    assert "data service at 127.0.0.1:5050" in result.stdout


@pytest.fixture
def tiny_digits(monkeypatch):
    """The data set's own model and recipe, as small as they can be."""
    monkeypatch.setitem(PRESETS, "digits", {**PRESETS["digits"], **TINY_MODEL})
    monkeypatch.setitem(RECIPES, "digits", RECIPES["digits"].replaced(**TINY_RECIPE))


@pytest.fixture
def tiny_pictures(monkeypatch, tmp_path):
    """Those of all pictures, and a few in place of Fashion-MNIST."""
    prepare(tmp_path / "datasets")
    monkeypatch.setitem(PRESETS, "image", {**PRESETS["image"], **TINY_MODEL})
    monkeypatch.setitem(RECIPES, "image", RECIPES["image"].replaced(**{**TINY_RECIPE, "batch_size": 8}))


def studies():
    """`[(words of a command without its arms, its arms), ..]`."""
    found = []
    for words in (shlex.split(c) for c in commands() if "keras-perceiver study" in c):
        arms = [word for option, word in pairwise(words) if option == "--arm"]
        found.append(([word for word in words if word not in ("--arm", *arms)], arms))
    return found


@pytest.mark.parametrize(("words", "arms"), studies(), ids=" ".join)
def test_studies_of_the_documents_at_a_tiny_budget(words, arms, tiny_digits, tiny_pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arm = {"depth": "1 cross-attend", "permutation": "Perceiver, permuted", "positions": "learned"}[words[2]]
    assert not arms or arm in arms
    result = CliRunner().invoke(app, [*words[1:], "--arm", arm, "--epochs", "1", "--seeds", "1"])
    assert result.exit_code == 0, result.stderr
    folder = tmp_path / "studies" / f"{words[2]}-{words[3].removeprefix('tfds:')}"
    (row,) = csv.DictReader((folder / "study.csv").read_text().splitlines())
    run = Run(folder / slug(arm) / "seed0")
    assert float(row["accuracy"]) == run.read_json("metrics.json")["accuracy"]
    assert f"{float(row['accuracy']):.2%}" in result.stdout
    assert int(row["examples_seen"]) == (10 * 128 if words[3] == "digits" else 4 * 8)
    assert float(row["training_seconds"]) > 0
    asked = {"depth": ("num_blocks", 4), "permutation": ("permute_seed", 0), "positions": ("positions", "learned")}
    name, value = asked[words[2]]
    assert run.config()["model"][name] == value
    assert not (tmp_path / "saved_models").exists()


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("python -m tuning ")])
def test_tuning_commands_of_the_documents_at_a_tiny_budget(command, tiny_digits, tmp_path, monkeypatch):
    """One trial, in this process (tests/tuning/test_search.py has real workers), whatever time it takes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tuning.report.draw", lambda *_: None)
    monkeypatch.setattr("tuning.tuner.LATENCY_SECONDS", 0.01)
    few = ["--epochs", "1", "--trials", "1", "--workers", "1"]
    few += [word for option in ("--minutes", "--max-latency-ms") if option in command for word in (option, "1000000")]
    result = invoke(tuning_main.main, [*shlex.split(command)[3:], *few])
    assert result.exit_code == 0, result.stderr
    assert "best of 1 trials: 0" in result.stdout


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("python -m tuning.confirm ")])
def test_confirmations_of_the_documents_at_a_tiny_budget(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tuning.tuner.LATENCY_SECONDS", 0.01)
    words = shlex.split(command)
    folder = tmp_path / words[3]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"data": "digits"}')
    for arm, num_latents in (("default", 3), ("best", 2)):
        settings = {"model": {**TINY_MODEL, "num_latents": num_latents}, "recipe": TINY_RECIPE}
        (folder / f"{arm}.json").write_text(json.dumps(settings))
    result = invoke(confirm_main.main, [*words[3:], "--seeds", "1", "--epochs", "1"])
    assert result.exit_code == 0, result.stderr
    runs = {arm: Run(folder / "confirmation" / arm / "seed0") for arm in ("default", "best")}
    assert runs["best"].config()["model"]["num_latents"] == 2
    for run in runs.values():
        assert f"{run.read_json('metrics.json')['accuracy']:.2%}" in (folder / "confirmation.md").read_text()


def invoke(function, words):
    """A programme of one function, run with these words."""
    program = typer.Typer()
    program.command()(function)
    return CliRunner().invoke(program, words)


@pytest.mark.parametrize(("document", "text"), blocks("python"))
def test_python_of_the_documents(document, text, users_folder, capsys):
    if "model.tflite" in text:
        options = ["--format", "litert", "--max-points-lost=100"]
        assert CliRunner().invoke(app, ["export", "runs/digits-seed0", *options]).exit_code == 0
    exec(compile(text, document, "exec"), {"__name__": "__main__"})
    for line in text.splitlines():
        if "print(" in line and "  # " in line:
            assert line.split("  # ")[1] in capsys.readouterr().out.replace("TensorShape", "")


def test_every_command_of_the_documents_is_known_here():
    """What is neither ours nor set-up would be run by no test."""
    known = (
        "keras-perceiver",
        "python -m tuning",
        "bash .ci/run",
        "python3 -m venv",
        "pip",
        "ruff",
        "pytest",
        "for seed",
    )
    assert [c for c in commands() if not c.startswith(known)] == []


def test_ci_runs_the_test_command_of_the_readme():
    assert "<!-- test command -->\n```bash\npython3 -m venv" in (ROOT / "README.md").read_text()
    assert "<!-- test command -->" in (ROOT / ".ci" / "run").read_text()
    assert "bash .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()
