"""Kills training at random moments, goes on, and compares with training that nobody killed: `python tests/kill.py`.

Every attempt is a process of its own, forked from one that has imported Keras and done nothing with it, and ends by
SIGKILL: between steps, within one, or while a checkpoint is written. It is killed within the time that all steps
together take, counted from its first step. After each row of kills the last attempt is left alone. Weights and history
must then be those of the first run, to the bit.
"""

import argparse
import functools
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from tiny import TINY_MODEL, TINY_RECIPE, quiet

from keras_perceiver import training
from keras_perceiver.data import Source, Split
from keras_perceiver.training.progress import History
from keras_perceiver.training.train import fit

MAX_IN_A_ROW = 4  # kills of one run


class Tell(keras.callbacks.Callback):
    """Writes a byte into a pipe at every step."""

    def __init__(self, pipe):
        super().__init__()
        self.pipe = pipe

    def on_train_batch_end(self, batch, logs=None):
        os.write(self.pipe, b".")


def train(folder, pipe):
    """The whole main job: handwritten digits, with averaged weights, MixUp and moved pictures."""
    training.train(
        "digits",
        output=folder / "run",
        shelf=folder / "shelf",
        seed=5,
        model=TINY_MODEL,
        recipe={**TINY_RECIPE, "ema_momentum": 0.9, "mix_up": 0.2, "global_clip_norm": 1.0},
        callbacks=[Tell(pipe)],
        checkpoint_steps=2,
        console=quiet(),
    )
    weights = keras.models.load_model(folder / "run" / "model.keras").weights
    keep(folder, weights, (folder / "run" / "history.csv").read_text())


def small(folder, pipe, steps_per_execution=1):
    """A network of two layers with all kinds of state: dropout, running means, averaged weights."""
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (60, 3, 3, 1)).astype(np.uint8), np.arange(60, dtype=np.int32) % 2)
    source = Source("noise", "image", ("a", "b"), {"train": split, "validation": split}, preset="image")
    recipe = training.Recipe(4, 5, 0.01, ema_momentum=0.9, cut_mix=0.5, flip_rate=0.5, jit_compile=False)
    recipe = recipe.replaced(steps_per_execution=steps_per_execution)
    keras.utils.set_random_seed(5)
    layers = keras.layers
    inputs = keras.Input((3, 3, 1))
    x = layers.Dropout(0.5)(layers.BatchNormalization()(layers.Dense(7, "relu")(layers.Flatten()(inputs))))
    model = keras.Model(inputs, layers.Dense(2)(x))
    recipe.compile(model, 12)
    rows = []
    checkpoints = training.Checkpoints(folder / "checkpoint", rows, every_steps=1, console=quiet())
    position = checkpoints.restore(model)
    fit(model, source, recipe, 5, position=position, callbacks=[History(rows, lambda _: None), checkpoints, Tell(pipe)])
    keep(folder, model.variables, json.dumps(rows))


JOBS = {"train": train, "small": small, "threes": functools.partial(small, steps_per_execution=3)}


def keep(folder, variables, history):
    """Writes what is compared."""
    np.savez(folder / "weights.npz", *(keras.ops.convert_to_numpy(v) for v in variables))
    (folder / "history.txt").write_text(history)


def start(job, folder):
    """Starts an attempt in a process of its own: its id, and the pipe that tells of every step."""
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return process, reading
    try:
        os.close(reading)
        folder.mkdir(exist_ok=True)
        JOBS[job](folder, writing)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def finish(process, pipe):
    """Waits for an attempt: the seconds from its first step to its last."""
    first = last = None
    while os.read(pipe, 1):
        last = time.monotonic()
        first = first or last
    os.close(pipe)
    _, status = os.waitpid(process, 0)
    if status:
        raise SystemExit(f"an attempt ended with status {status}")
    return last - first if first else 0.0


def kill(process, pipe, seconds):
    """Kills an attempt so long after its first step; whether it still ran."""
    os.read(pipe, 1)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    os.close(pipe)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def is_same(one, other):
    """Whether two runs ended with the same weights, to the bit, and the same history."""
    if (one / "history.txt").read_text() != (other / "history.txt").read_text():
        return False
    with np.load(one / "weights.npz") as ours, np.load(other / "weights.npz") as theirs:
        return ours.files == theirs.files and all(ours[n].tobytes() == theirs[n].tobytes() for n in ours.files)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--job", choices=JOBS, default="train")
    options = parser.parse_args(arguments)
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        duration = finish(*start(options.job, folder / "whole"))
        print(f"never killed: {duration:.1f} s of steps", flush=True)
        left = options.kills
        for number in itertools.count():
            if not left:
                return
            run, killed = folder / f"killed-{number}", []
            for _ in range(min(left, draw.randint(1, MAX_IN_A_ROW))):
                seconds = draw.uniform(0, duration)
                if not kill(*start(options.job, run), seconds):
                    break
                killed.append(f"{seconds:.2f}")
            else:
                finish(*start(options.job, run))
            left -= len(killed)
            same = is_same(folder / "whole", run)
            print(f"killed after {', '.join(killed)} s: {'the same' if same else 'DIFFERENT'}", flush=True)
            if not same:
                raise SystemExit(1)


if __name__ == "__main__":
    main()
