"""What a second worker costs a step: `python tests/benchmarks/distribution.py`.

One process trains on noise with batches of half the size, then two workers on this machine with whole ones, so that
each has the same to compute, on one thread. What their steps take longer is the sum of gradients and figures; the ratio
is printed. Where the machine has not two free cores it says more of them than of the workers.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent.parent))

import keras
import numpy as np
import tensorflow as tf
from distributed import finish, start

from keras_perceiver.data import Source, Split
from keras_perceiver.models import PRESETS, build_preset
from keras_perceiver.training import RECIPES, Workers, build_strategy
from keras_perceiver.training.cluster import free_addresses
from keras_perceiver.training.train import fit

WARM_UP = 3  # steps that are not counted


class Clock(keras.callbacks.Callback):
    """When each step ended."""

    def on_train_begin(self, logs=None):
        self.times = []

    def on_train_batch_end(self, batch, logs=None):
        self.times.append(time.perf_counter())


def measure(pipe, steps, batch_size, addresses=None, index=None):
    """Writes the median of the seconds of a step into a pipe."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    strategy = None
    if addresses is not None:
        strategy = build_strategy("multiworker", worker_addresses=addresses, worker_index=index)
    workers, shape = Workers(strategy), PRESETS["digits"]["input_shape"]
    examples = np.random.default_rng(0).integers(0, 256, ((steps + WARM_UP) * batch_size, *shape)).astype(np.uint8)
    split = Split(examples, np.arange(len(examples), dtype=np.int32) % 10)
    held = Split(examples[:2], split.labels[:2])
    source = Source("noise", "image", tuple("0123456789"), {"train": split, "validation": held}, preset="digits")
    recipe = RECIPES["digits"].replaced(epochs=1, batch_size=batch_size, jit_compile=False)
    with workers.scope():
        model = build_preset("digits")
        recipe.compile(model, steps + WARM_UP)
    clock = Clock()
    fit(model, source, recipe, 0, callbacks=[clock], workers=workers)
    os.write(pipe, json.dumps(statistics.median(np.diff(clock.times)[WARM_UP:])).encode() + b"\n")


def in_processes(settings):
    """The longest of what processes with these settings have measured."""
    reading, writing = os.pipe()
    codes = finish([start(measure, writing, **own) for own in settings])
    os.close(writing)
    with os.fdopen(reading) as lines:
        seconds = [json.loads(line) for line in lines]
    if any(codes):
        raise SystemExit(f"a process ended with a code: {codes}")
    return max(seconds)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args(arguments)
    half, addresses = options.batch_size // 2, free_addresses(2)
    alone = in_processes([{"steps": options.steps, "batch_size": half}])
    both = {"steps": options.steps, "batch_size": 2 * half, "addresses": addresses}
    together = in_processes([{**both, "index": index} for index in range(2)])
    print(f"one process, {half} examples a step: {alone * 1e3:.1f} ms")
    print(f"two workers, {2 * half} examples a step: {together * 1e3:.1f} ms")
    print(f"a step of two workers takes {together / alone:.2f} times as long, for twice the examples")


if __name__ == "__main__":
    main()
