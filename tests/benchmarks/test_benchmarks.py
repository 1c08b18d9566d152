"""Every benchmark runs, at a tiny size; what it measures at its real size stands in NOTES.md."""

import importlib
import subprocess
import sys
from pathlib import Path

from tests.tiny import TINY_MODEL

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


def test_input_pipeline_prints_rates_of_pipeline_and_training(capsys, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    benchmark = importlib.import_module("input_pipeline")
    monkeypatch.setattr("keras_perceiver.data.pipeline.CACHE_BYTES", 2**31)  # put back what the benchmark changes
    monkeypatch.setattr(benchmark, "AUGMENTATIONS", {"none": {}})
    monkeypatch.setitem(benchmark.PRESETS, "image", {**benchmark.PRESETS["image"], **TINY_MODEL})
    monkeypatch.setitem(benchmark.RECIPES, "image", benchmark.RECIPES["image"].replaced(jit_compile=False))
    benchmark.main(["--size=8", "--stored=16", "--examples=8", "--batch-size=4", "--repeats=1"])
    _, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(float(line.split()[-1].replace(",", "")) > 0 for line in lines)
