"""Would keeping log-mel frames be faster than making them in every epoch? `python tests/benchmarks/log_mel.py`.

Processor time of a batch: its log-mel frames, and the training step of the model that sounds get by default.
"""

import argparse
import statistics
import time

import numpy as np
import tensorflow as tf

from keras_perceiver import build_preset
from keras_perceiver.data import preprocess_audio
from keras_perceiver.training import RECIPES

CLASSES = 10


def processor_seconds(step, repeats):
    """The median of `repeats` calls, after one more."""
    step()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        step()
        times.append(time.process_time() - began)
    return statistics.median(times)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=8000)
    parser.add_argument("--window", type=int, default=6400, help="samples, a multiple of 16 frames")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--no-jit", action="store_true")
    arguments = parser.parse_args(arguments)
    samples = np.random.default_rng(0).normal(0, 0.1, (arguments.batch, arguments.window)).astype(np.float32)
    clips = {"samples": tf.constant(samples), "length": tf.fill((arguments.batch,), arguments.window)}
    make = tf.function(preprocess_audio((arguments.window, arguments.rate, arguments.window)))
    batch = make(clips)
    model = build_preset("audio", input_shape={"audio": tuple(batch["audio"].shape[1:])}, num_classes=CLASSES)
    RECIPES["audio"].replaced(jit_compile=not arguments.no_jit).compile(model, 100)
    labels = tf.one_hot(tf.range(arguments.batch) % CLASSES, CLASSES)
    mel = processor_seconds(lambda: make(clips), arguments.repeats)
    step = processor_seconds(lambda: model.train_on_batch(batch, labels), arguments.repeats)
    of = f"log-mel of {arguments.batch} windows {1e3 * mel:.1f} ms"
    print(f"{of}, training step {1e3 * step:.1f} ms: {mel / step:.1%}")


if __name__ == "__main__":
    main()
