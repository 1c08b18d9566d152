"""How long it takes until something happens: `python tests/benchmarks/start_up.py`.

Medians over `--repeats` processes: the imports, what `keras_perceiver` adds to those of Keras and its backend, and
building the ImageNet model; for the command, `--help` and the first answer of `predict`, with TensorFlow. The first
training step at 224x224 and batch 1, tracing and compilation included, without XLA and with it, is measured once, since
it takes long.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import MODES, backend, in_own_process

COMMAND = [sys.executable, "-c", "from keras_perceiver._command import main; main()"]
SMALL = {"num_latents": 4, "latent_dim": 16, "num_bands": 2, "num_blocks": 1, "num_cross_attends": 1}


def measure(settings):
    """Seconds of the imports, of the model and, with a `mode`, of its first step, in this process."""
    start = time.perf_counter()
    import keras
    import numpy as np

    seconds = {"import Keras and backend": time.perf_counter() - start}
    start = time.perf_counter()
    import keras_perceiver

    seconds["import keras_perceiver on top"] = time.perf_counter() - start
    start = time.perf_counter()
    model = keras_perceiver.build_preset("imagenet", **settings["model"])
    seconds["build the model"] = time.perf_counter() - start
    if "mode" in settings:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, jit_compile=settings["mode"] == "XLA")
        model.optimizer.build(model.trainable_variables)
        x = np.zeros((1, *model.input_shape[1:]), "float32")
        for name in ("first", "second"):
            start = time.perf_counter()
            model.train_on_batch(x, np.zeros(1, int))
            seconds[f"{name} step, {settings['mode']}"] = time.perf_counter() - start
    return seconds


def export(folder):
    """A SavedModel of a small classifier of digits, and a picture."""
    from PIL import Image

    from keras_perceiver import build_preset
    from keras_perceiver.export import export_saved_model

    saved = export_saved_model(build_preset("digits"), "digits", [str(i) for i in range(10)], shelf=folder).folder
    picture = folder / "picture.png"
    Image.new("L", (8, 8)).save(picture)
    return saved, picture


def seconds_of(*arguments):
    """Of one run of the command."""
    start = time.perf_counter()
    subprocess.run([*COMMAND, *map(str, arguments)], check=True, capture_output=True)
    return time.perf_counter() - start


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a tiny model in place of the paper's")
    parser.add_argument("--modes", nargs="+", choices=("ops", "XLA"), default=list(MODES[backend()]))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args(arguments)
    if arguments.measure:
        print(json.dumps(measure(json.loads(arguments.measure))))
        return
    settings = {"model": {**SMALL, "input_shape": (8, 8, 3)} if arguments.small else {}}
    runs = [run for run in (in_own_process(__file__, settings) for _ in range(arguments.repeats)) if run]
    if not runs:
        sys.exit("no process came to its end")
    found = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    for mode in arguments.modes:
        run = in_own_process(__file__, {**settings, "mode": mode}) or {}
        found |= {k: v for k, v in run.items() if mode in k}
    found |= seconds_of_the_command(arguments.repeats) if backend() == "tensorflow" else {}
    for name, seconds in found.items():
        print(f"{name:32} {seconds:8.2f} s")


def seconds_of_the_command(repeats):
    """Median seconds of `--help` and of the first answer of `predict`, which takes a SavedModel."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        saved, picture = export(Path(folder))
        for name, call in {"--help": ["--help"], "predict": ["predict", saved, picture]}.items():
            times = [seconds_of(*call) for _ in range(repeats)]
            found[f"keras-perceiver {name}"] = statistics.median(times)
    return found


if __name__ == "__main__":
    main()
