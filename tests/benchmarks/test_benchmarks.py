"""Every benchmark runs, at a tiny size; what it measures at its real size stands in NOTES.md."""

import subprocess
import sys
from pathlib import Path

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
