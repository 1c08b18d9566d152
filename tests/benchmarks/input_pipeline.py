"""Does the data pipeline feed a model faster than it trains? `python tests/benchmarks/input_pipeline.py`.

Examples per second of the training pipeline alone, of pictures in memory and of JPEG files that are decoded anew every
time, with several kinds of augmentation; beside those of the training step of the model that such data get by
default. Times are medians of repeats.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from keras_perceiver import build_preset
from keras_perceiver.data import Lazy, Split, read_image
from keras_perceiver.training import RECIPES
from keras_perceiver.training.feeding import training_data

CLASSES = 10
AUGMENTATIONS = {
    "none": {"crop_min_area": 1.0, "flip_rate": 0.0},
    "flip, crop": {},
    "and RandAugment": {"rand_augment_layers": 2},
    "and MixUp, CutMix": {"mix_up": 0.2, "cut_mix": 1.0},
}


class Data:
    """What `training_data` needs of a `Source`."""

    modality = "image"
    class_names = tuple(map(str, range(CLASSES)))

    def __init__(self, examples):
        self.example_shape = tuple(examples.shape[1:])
        self.splits = {"train": Split(examples, (np.arange(len(examples)) % CLASSES).astype(np.int32))}


def in_memory(arguments):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (arguments.examples, arguments.size, arguments.size, 3), np.uint8)


def in_files(arguments, folder):
    """JPEG files of `--stored` pixels each way, decoded and resized each time they are asked for."""
    rng = np.random.default_rng(0)
    for i in range(8):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
        coarse.resize((arguments.stored, arguments.stored)).save(Path(folder) / f"{i}.jpg", quality=90)
    shape = (arguments.size, arguments.size, 3)
    return Lazy(lambda i: read_image(Path(folder) / f"{i % 8}.jpg", shape), range(arguments.examples), shape, "uint8")


def pipeline_rate(examples, recipe, repeats):
    """Examples a second: one epoch to begin with, the median of `repeats` more."""
    dataset = training_data(Data(examples), recipe.replaced(epochs=1), seed=0)
    seconds = []
    for _ in range(repeats + 1):
        began, count = time.perf_counter(), 0
        for x, _y in dataset:
            count += len(x)
        seconds.append(time.perf_counter() - began)
    return count / statistics.median(seconds[1:])


def training_rate(recipe, size, front, repeats):
    """Examples a second of the training step, on one batch that lies in memory."""
    model = build_preset("image", input_shape=(size, size, 3), num_classes=CLASSES, **front)
    recipe.compile(model, 100)
    x = np.zeros((recipe.batch_size, size, size, 3), np.float32)
    y = keras.utils.to_categorical(np.arange(recipe.batch_size) % CLASSES, CLASSES)
    seconds = []
    for _ in range(repeats + 2):
        began = time.perf_counter()
        model.train_on_batch(x, y)
        seconds.append(time.perf_counter() - began)
    return recipe.batch_size / statistics.median(seconds[2:])


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("size", 64), ("stored", 500), ("examples", 2048), ("batch-size", 64), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args(arguments)
    recipe = RECIPES["image"].replaced(batch_size=arguments.batch_size)
    from keras_perceiver.data import kept

    print(f"pictures of {arguments.size}x{arguments.size}, B={arguments.batch_size}: examples a second")
    for name, changes in AUGMENTATIONS.items():
        rate = pipeline_rate(in_memory(arguments), recipe.replaced(**changes), arguments.repeats)
        print(f"{'pipeline, in memory, ' + name:45} {rate:9,.0f}", flush=True)
    kept.CACHE_BYTES = 0  # as of data that do not fit
    with tempfile.TemporaryDirectory() as folder:
        rate = pipeline_rate(in_files(arguments, folder), recipe, arguments.repeats)
    stored = f"{arguments.stored}x{arguments.stored}"
    print(f"{f'pipeline, JPEG of {stored}, flip, crop':45} {rate:9,.0f}", flush=True)
    for what, front in {"by default": {}, "single pixels": {"patch_size": 1}}.items():
        rate = training_rate(recipe, arguments.size, front, arguments.repeats)
        print(f"{'training step, ' + what:45} {rate:9,.0f}", flush=True)


if __name__ == "__main__":
    main()
