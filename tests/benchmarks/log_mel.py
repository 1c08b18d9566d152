"""What is won where log-mel frames are kept? `python tests/benchmarks/log_mel.py`.

Epochs of training the model that sounds get by default, whose frames are made in every epoch or once, one after the
other in one process. Every sound fills its window.
"""

import argparse
import statistics
import time

import numpy as np

from keras_perceiver import build_preset
from keras_perceiver.data import MODALITIES, Split, training_dataset
from keras_perceiver.data.audio import audio_dtype, choose_audio_shape
from keras_perceiver.data.pipeline import Keep
from keras_perceiver.training import RECIPES

CLASSES = 10


def sounds(shape, count):
    """A split of noise."""
    rng, examples = np.random.default_rng(0), np.zeros(count, audio_dtype(shape))
    examples["samples"], examples["length"] = rng.normal(0, 3000, examples["samples"].shape), shape[2]
    return Split(examples, np.arange(count, dtype=np.int32) % CLASSES)


def compare(rate, arguments):
    """Prints the seconds of an epoch both ways."""
    kind, count = MODALITIES["audio"], arguments.batch * arguments.steps
    shape = choose_audio_shape([{"rate": rate, "seconds": arguments.seconds}])
    split, preprocess = sounds(shape, count), kind.preprocess(shape)
    model = build_preset("audio", input_shape=kind.input_shape(shape), num_classes=CLASSES)
    RECIPES["audio"].compile(model, 100)
    settings = {"batch_size": arguments.batch, "num_classes": CLASSES, "seed": 0, "num_epochs": 1}
    settings |= {"preprocess": preprocess, "augment": kind.augment(shape)}
    keep = Keep(np.arange(count), lambda example: kind.clip(example, shape, 0, 1))
    began = time.perf_counter()
    epochs = {"kept": training_dataset(split, keep=keep, **settings)}
    prepared = time.perf_counter() - began
    epochs = {"made": training_dataset(split, **settings), **epochs}
    clocks = {"elapsed": time.perf_counter, "of the processor": time.process_time}
    seconds = {(name, clock): [] for name in epochs for clock in clocks}
    for _ in range(1 + arguments.repeats):
        for name, epoch in epochs.items():
            began = {clock: read() for clock, read in clocks.items()}
            for batch in epoch:
                model.train_on_batch(*batch)
            for clock, read in clocks.items():
                seconds[name, clock].append(read() - began[clock])
    print(f"{rate:6,} Hz, prepared in {prepared:.2f} s", end="")
    for clock in clocks:
        made, kept = (statistics.median(seconds[name, clock][1:]) for name in ("made", "kept"))
        print(f"; {clock}: made {made:.2f}, kept {kept:.2f}, {made / kept:.2f} times as fast", end="")
    print()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=int, nargs="+", default=[8_000, 16_000, 48_000])
    parser.add_argument("--seconds", type=float, default=1.0, help="of a sound")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8, help="of an epoch")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(arguments)
    print(
        f"{arguments.batch * arguments.steps} sounds of {arguments.seconds:g} s, in batches of {arguments.batch}; "
        "seconds of an epoch"
    )
    for rate in arguments.rates:
        compare(rate, arguments)


if __name__ == "__main__":
    main()
