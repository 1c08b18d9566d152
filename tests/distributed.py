"""Trains a small model in one process, on two devices, by two workers and through a data service.

`python tests/distributed.py FOLDER`. One of the workers is killed, and both are started again.

Every process is forked from one that has imported Keras and done nothing with it, and writes what it ended with into
the folder: `<name>.json`. `test_distribution.py` compares.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from tiny import quiet

from keras_perceiver import training
from keras_perceiver.data import Source, Split
from keras_perceiver.data.service import running_service
from keras_perceiver.training.cluster import free_addresses
from keras_perceiver.training.evaluate import evaluate_model
from keras_perceiver.training.feeding import evaluation_data, steps_of_evaluation
from keras_perceiver.training.progress import History
from keras_perceiver.training.resume import START
from keras_perceiver.training.train import fit

STEPS = 4
RECIPE = training.Recipe(
    2, 6, 0.05, ema_momentum=0.5, global_clip_norm=0.05, flip_rate=0.5, mix_up=0.4, jit_compile=False
)
NO_MIX = RECIPE.replaced(mix_up=0.0)


def source():
    """29 tiny pictures to train on: four batches of six, and five left over; 11 and 7 to look at."""
    rng = np.random.default_rng(0)
    sizes = {"train": 29, "validation": 11, "test": 7}
    splits = {
        name: Split(rng.integers(0, 256, (n, 2, 3, 1)).astype(np.uint8), rng.integers(0, 2, n).astype(np.int32))
        for name, n in sizes.items()
    }
    return Source("noise", "image", ("a", "b"), splits, preset="image")


class KillAt(keras.callbacks.Callback):
    """Ends the process behind that step of the second epoch, as nothing can be done about."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, self.step):
            os.kill(os.getpid(), signal.SIGKILL)


def train(name, folder, recipe=RECIPE, strategy=None, checkpoints=None, kill_at=None, service=None):
    """One process' part of a run; writes `<name>.json`."""
    workers = training.Workers(strategy)
    keras.utils.set_random_seed(5 if workers.is_chief else 6)  # others begin with the chief's weights
    with workers.scope():
        inputs = keras.Input((2, 3, 1))
        x = keras.layers.Dense(5, "relu")(keras.layers.Flatten()(inputs))
        model = keras.Model(inputs, keras.layers.Dense(2)(x))
        recipe.compile(model, STEPS)
    rows, callbacks, position = [], [], START
    callbacks.append(History(rows, lambda _: None))
    if checkpoints is not None:
        kept = training.Checkpoints(folder / checkpoints, rows, every_steps=1, workers=workers, console=quiet())
        position = kept.restore(model)
        callbacks.append(kept)
    if kill_at is not None:
        callbacks.append(KillAt(kill_at))
    data = source()
    began = time.monotonic()
    try:
        with workers.held_together():
            settings = {"workers": workers, "service": service}
            fit(model, data, recipe, 5, position=position, callbacks=callbacks, **settings)
    except training.WorkerLost as error:
        write(folder, name, {"lost": str(error), "seconds": time.monotonic() - began})
        os._exit(75)
    held_out = evaluation_data(data, "test", shard=workers.shard)
    steps = steps_of_evaluation(data, "test")
    evaluated = model.evaluate(workers.distributed(held_out, repeat=True), steps=steps, verbose=0, return_dict=True)
    logits = model.predict(workers.distributed(held_out, repeat=True), steps=steps, verbose=0)
    write(
        folder,
        name,
        {
            "rows": rows,
            "began": list(position),
            "weights": [w.tolist() for w in model.get_weights()],
            "evaluated": evaluated,
            "logits": logits.tolist(),
            "metrics": evaluate_model(model, data, workers=workers),
        },
    )


def write(folder, name, content):
    (folder / f"{name}.json").write_text(json.dumps(content))


def alone(folder):
    train("one", folder)
    train("no_mix", folder, recipe=NO_MIX)


def mirrored(name, folder, **settings):
    """Two logical devices of one process."""
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
    train(name, folder, strategy=training.build_strategy("mirrored"), **settings)


def worker(name, folder, addresses, index, **settings):
    strategy = training.build_strategy("multiworker", worker_addresses=addresses, worker_index=index, worker_timeout=60)
    train(name, folder, strategy=strategy, **settings)


def serve(pipe):
    """A data service, whose address goes into the pipe."""
    with running_service(0) as address:
        os.write(pipe, address.encode())
        time.sleep(3600)


def start(function, *arguments, **settings):
    """Runs a function in a process of its own; its id."""
    process = os.fork()
    if process:
        return process
    try:
        function(*arguments, **settings)
    except BaseException as error:
        print(f"{arguments[0]}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def two_workers(name, folder, *others, **settings):
    """Starts two workers; the second one with other settings beside."""
    addresses = free_addresses(2)
    for index in range(2):
        own = {**settings, **(others[0] if others and index == 1 else {})}
        yield start(worker, f"{name}{index}", folder, addresses, index, **own)


def finish(processes):
    """Waits for all; the codes with which they ended."""
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


def main():
    folder = Path(sys.argv[1])
    reading, writing = os.pipe()
    service = start(serve, writing)
    address = os.read(reading, 100).decode()
    workers = {"recipe": NO_MIX, "checkpoints": "checkpoints"}
    runs = {
        "one": [start(alone, folder)],
        "mirrored": [start(mirrored, "mirrored", folder)],
        "killed": list(two_workers("killed", folder, {"kill_at": 1}, **workers)),
    }
    codes = {name: finish(processes) for name, processes in runs.items()}
    runs = {
        "worker": list(two_workers("worker", folder, **workers)),
        "served": [start(train, "served", folder, service=address)],
    }
    codes |= {name: finish(processes) for name, processes in runs.items()}
    os.kill(service, signal.SIGKILL)
    finish([service])
    write(folder, "codes", codes)


if __name__ == "__main__":
    main()
