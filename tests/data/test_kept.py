"""Log-mel frames are made once where they stay the same, and nothing else changes."""

import threading

import numpy as np
import pytest
import tensorflow as tf

from keras_perceiver.data import MODALITIES, Lazy, Split, evaluation_dataset, kept, training_dataset
from keras_perceiver.data.audio import audio_dtype
from keras_perceiver.data.pipeline import Keep

SHAPE = (1280, 8000, 3000)  # windows of 16 frames
LENGTHS = np.array([1280, 700, 3000, 1281, 1, 1280, 2000, 90])
WHOLE = np.flatnonzero(LENGTHS <= 1280)
LABELS = (np.arange(8) % 2).astype(np.int32)
KIND = MODALITIES["audio"]


@pytest.fixture
def sounds():
    """A split of sounds that are read when they are asked for, and the list of which were read."""
    read, lock = [], threading.Lock()

    def fetch(key):
        with lock:
            read.append(key)
        example = np.zeros((), audio_dtype(SHAPE))
        example["length"] = LENGTHS[key]
        example["samples"][: LENGTHS[key]] = np.random.default_rng(key).normal(0, 3000, LENGTHS[key])
        return example

    return Split(Lazy(fetch, range(8), (), audio_dtype(SHAPE)), LABELS), read


def clip(example, number, count):
    return KIND.clip(example, SHAPE, number, count)


def training(split, keep=True, preprocess=None, **changes):
    dataset = training_dataset(
        split,
        batch_size=4,
        num_classes=2,
        seed=3,
        num_epochs=3,
        preprocess=preprocess or KIND.preprocess(SHAPE),
        augment=KIND.augment(SHAPE),
        hide=KIND.hide(time_masks=1, frequency_masks=1),
        keep=Keep(WHOLE, lambda example: clip(example, 0, 1)) if keep else None,
        **changes,
    )
    return list(dataset.as_numpy_iterator())


def counted():
    """(`preprocess` of sounds, the list of how many windows it was given at a time)."""
    preprocess, windows = KIND.preprocess(SHAPE), []

    def counting(clips):
        tf.numpy_function(lambda samples: windows.append(samples.size // 1280), [clips["samples"]], [])
        return preprocess(clips)

    return counting, windows


def require_same(batches, expected):
    assert len(batches) == len(expected) > 0
    for batch, other in zip(batches, expected, strict=True):
        tf.nest.map_structure(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), batch, other)


def test_batches_of_training_are_those_that_would_be_made_in_every_epoch(sounds):
    split, read = sounds
    preprocess, windows = counted()
    batches = training(split, preprocess=preprocess)
    require_same(batches, training(split, keep=False))
    assert windows == [1] * (len(WHOLE) + 3 * (8 - len(WHOLE)))  # long ones: another window in each epoch
    assert sorted(read) == list(range(8))  # each once, for both
    require_same(training(split, first_epoch=1, first_step=1), batches[3:])


def test_clips_of_evaluation_are_those_that_would_be_made_every_time(sounds):
    split, _ = sounds
    preprocess, windows = counted()
    settings = {"batch_size": 5, "num_classes": 2, "clip": clip, "clips": [1, 1, 5, 3, 1, 1, 4, 1]}
    dataset = evaluation_dataset(split, preprocess=preprocess, is_kept=True, **settings)
    expected = list(evaluation_dataset(split, preprocess=KIND.preprocess(SHAPE), **settings).as_numpy_iterator())
    for _ in range(2):
        require_same(list(dataset.as_numpy_iterator()), expected)
    assert windows == [1] * 17


def test_frames_of_sounds_that_do_not_fit_are_kept_and_their_files_not_read_again(sounds, monkeypatch):
    split, read = sounds
    size = len(WHOLE) * 16 * 64 * 5  # a number and its mask
    monkeypatch.setattr(kept, "CACHE_BYTES", size)
    assert split.examples.nbytes > size
    batches = training(split)
    assert {key: read.count(key) for key in WHOLE} == dict.fromkeys(WHOLE, 1)
    monkeypatch.setattr(kept, "CACHE_BYTES", size - 1)
    preprocess, windows = counted()
    require_same(training(split, preprocess=preprocess), batches)
    assert set(windows) == {4}  # batches, in every epoch
    monkeypatch.setattr(kept, "CACHE_BYTES", split.examples.nbytes + size - 1)  # either fits, both do not
    require_same(training(split, preprocess=preprocess), batches)
    assert set(windows) == {4}


@pytest.mark.parametrize(
    ("preprocess", "augment", "expected"),
    [
        ({}, {"fade_share": 0.0, "noise_std": 0.0}, True),
        ({"audio_input": "log_mel", "trim_threshold": 0.1}, {}, True),
        ({"audio_input": "raw"}, {}, False),
        ({}, {"fade_share": 0.1, "noise_std": 0.0}, False),
        ({}, {"fade_share": 0.0, "noise_std": 0.1}, False),
    ],
)
def test_only_what_stays_the_same_and_takes_long_is_kept(preprocess, augment, expected):
    assert KIND.keeps(preprocess, augment) is expected
    assert not any(MODALITIES[name].keeps({}, {}) for name in ("image", "video", "audio_video", "points"))


def test_nothing_is_kept_where_all_sounds_are_longer(sounds):
    def make(place):
        return {"x": tf.zeros((2,))}

    assert kept.kept_inputs(make, 0, sounds[0].examples) is None
    assert kept.kept_inputs(make, 3, sounds[0].examples)["x"].shape == (3, 2)
