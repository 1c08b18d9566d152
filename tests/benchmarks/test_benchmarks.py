"""Every benchmark runs, at a tiny size; what it measures at its real size stands in NOTES.md."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def test_cross_attention_prints_a_ratio_for_every_form():
    sizes = ["--size=5", "--latents=3", "--latent-dim=8", "--bands=2", "--repeats=1"]
    command = [sys.executable, str(FOLDER / "cross_attention.py"), *sizes]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    rows = [line.split() for line in lines[2:]]
    assert [row[:2] for row in rows] == [
        [form, kind] for kind in ("forward", "gradients") for form in ("dense", "absorbed", "factored")
    ]
    assert [float(row[-1]) for row in rows if row[0] == "dense"] == [1.0, 1.0]


def test_scale_measures_every_form_in_processes_of_their_own(tmp_path):
    sizes = ["--small", "--sizes=4", "--training-sizes=4", "--modes=ops", "--repeats=1", f"--output={tmp_path}"]
    subprocess.run([sys.executable, str(FOLDER / "scale.py"), *sizes], check=True)
    rows = json.loads((tmp_path / "scale.json").read_text())
    assert [(row["implementation"], row["pass"]) for row in rows] == [
        ("auto", "forward"),
        ("dense", "forward"),
        ("auto", "forward"),
        ("auto", "training"),
        ("dense", "training"),
    ]
    assert all(row["seconds"] > 0 < row["peak_bytes"] for row in rows)
    assert (tmp_path / "scale.png").stat().st_size > 10_000


@pytest.mark.parametrize(("growth", "spread"), [(1.0, 0.0), (1.5, 0.25)])
def test_scale_tells_a_constant_cost_of_an_input_from_a_growing_one(growth, spread, capsys):
    scale = load("scale")
    rows = [
        {"model": model, "implementation": "auto", "pass": "forward", "mode": "XLA", "size": size, "seconds": seconds}
        for model in ("whole", "without latent Transformer")
        for size, seconds in ((64, 2.0), (256, 2.0 + 60 * 1e-3), (1024, 2.0 + 60 * 1e-3 + 960 * 1e-3 * growth))
    ]
    scale.report(rows)
    assert f"b is constant within {spread * 100 / (1 + spread):.1f}% " in capsys.readouterr().out


def load(name):
    """A benchmark as a module."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
