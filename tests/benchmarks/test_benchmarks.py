"""Every benchmark runs, at a tiny size; what it measures at its real size stands in NOTES.md."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import TINY_MODEL

FOLDER = Path(__file__).parent


@pytest.fixture
def benchmark_module(monkeypatch):
    """Function of a benchmark's name: that benchmark as a module."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


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
        ("auto", "training"),
        ("dense", "training"),
        ("auto", "forward"),
    ]
    assert all(row["seconds"] > 0 for row in rows)
    assert all(row["peak_bytes"] > 0 for row in rows[:4])
    assert (tmp_path / "scale.png").stat().st_size > 10_000


@pytest.mark.parametrize(("growth", "spread"), [(1.0, 0.0), (1.5, 0.25)])
def test_scale_tells_a_constant_cost_of_an_input_from_a_growing_one(growth, spread, capsys, benchmark_module):
    rows = [
        {"model": model, "implementation": "auto", "pass": "forward", "mode": "XLA", "size": size, "seconds": seconds}
        for model in ("whole", "without latent Transformer")
        for size, seconds in ((64, 2.0), (256, 2.0 + 60 * 1e-3), (1024, 2.0 + 60 * 1e-3 + 960 * 1e-3 * growth))
    ]
    benchmark_module("scale").report(rows)
    assert f"b is constant within {spread * 100 / (1 + spread):.1f}% " in capsys.readouterr().out


def test_choice_tells_how_long_what_auto_takes_takes(tmp_path, capsys, benchmark_module):
    options = ["--sizes=4", "--latents=3", "--heads=1", "--batches=2", "--seconds=0", f"--times={tmp_path / 'times'}"]
    choice = benchmark_module("choice")
    choice.main([*options, "--calibrate"])
    first = capsys.readouterr().out
    choice.main([*options, "--calibrate"])  # the times are kept
    assert capsys.readouterr().out == first
    lines = first.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["dense", "absorbed", "factored"]
    assert [line.split()[:5] for line in lines[5:7]] == [["4", "3", "1", "2", kind] for kind in ("fourier", "learned")]
    assert lines[-1].startswith("slowest")


def test_input_pipeline_prints_rates_of_pipeline_and_training(capsys, monkeypatch, benchmark_module):
    benchmark = benchmark_module("input_pipeline")
    monkeypatch.setattr("keras_perceiver.data.pipeline.CACHE_BYTES", 2**31)  # put back what the benchmark changes
    monkeypatch.setattr(benchmark, "AUGMENTATIONS", {"none": {}})
    monkeypatch.setitem(benchmark.PRESETS, "image", {**benchmark.PRESETS["image"], **TINY_MODEL})
    monkeypatch.setitem(benchmark.RECIPES, "image", benchmark.RECIPES["image"].replaced(jit_compile=False))
    benchmark.main(["--size=8", "--stored=16", "--examples=8", "--batch-size=4", "--repeats=1"])
    _, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(float(line.split()[-1].replace(",", "")) > 0 for line in lines)
