"""What models are evaluated on, in batches whose bytes are bounded."""

from types import SimpleNamespace

import numpy as np
import pytest

from keras_perceiver.data import Split
from keras_perceiver.training import feeding
from keras_perceiver.training.feeding import evaluation_batch, evaluation_data, steps_of_evaluation


def source_of(modality, shape, count=0):
    examples = np.zeros((count, *shape[:4]), np.uint8)
    split = Split(examples, np.zeros(count, np.int32))
    return SimpleNamespace(modality=modality, example_shape=shape, splits={"test": split}, class_names=("a", "b"))


@pytest.mark.parametrize(
    ("modality", "shape", "batch"),
    [
        ("image", (224, 224, 3), 256),
        ("image", (2048, 2048, 3), 16),
        ("audio", (160_000, 16_000, 960_000), 256),
        ("video", (32, 224, 224, 3), 27),
        ("video", (32, 224, 224, 3, 1500, 25), 27),  # those that are kept beside a window do not count
        ("audio_video", (32, 224, 224, 3, 61_440, 48_000, 250), 27),
        ("points", (2048, 3), 256),
    ],
)
def test_batches_of_large_examples_are_smaller(modality, shape, batch):
    assert evaluation_batch(source_of(modality, shape)) == batch


def test_steps_are_those_of_the_batches(monkeypatch):
    source = source_of("video", (2, 8, 8, 3), 50)
    assert steps_of_evaluation(source, "test") == 1
    monkeypatch.setattr(feeding, "EVALUATION_BYTES", 29 * 2 * 8 * 8 * 3 * 4)
    assert steps_of_evaluation(source, "test") == 2
    sizes = [len(y) for _, y in evaluation_data(source, "test").as_numpy_iterator()]
    assert sizes == [25, 25]  # of one size
