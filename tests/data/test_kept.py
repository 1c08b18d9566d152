"""Log-mel frames are made once where they stay the same, and nothing else changes."""

import dataclasses
import threading

import numpy as np
import pytest
import tensorflow as tf
from sounds import wav_bytes

from keras_perceiver.data import (
    MODALITIES,
    Lazy,
    Shard,
    Split,
    evaluation_dataset,
    kept,
    load_source,
    pipeline,
    training_dataset,
)
from keras_perceiver.data.audio import audio_dtype
from keras_perceiver.data.pipeline import Keep
from keras_perceiver.training import RECIPES
from keras_perceiver.training.feeding import evaluation_data, training_data

SHAPE = (1280, 8000, 3000)  # windows of 16 frames
LENGTHS = np.array([1280, 700, 3000, 1281, 160, 1280, 2000, 90])
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


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder of sounds, of which one in four is longer than a window."""
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    for i in range(24):
        samples = rng.normal(0, 0.1, 3000 if i % 4 == 0 else 900 + i)
        path = folder / ("high", "low")[i % 2] / f"{i}.wav"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(wav_bytes(samples, 8000))
    return load_source(folder, clip_seconds=0.16)


@pytest.mark.parametrize("shard", [Shard(0, 1, 1), Shard(1, 1, 2)], ids=["whole", "the second of two"])
def test_a_run_is_fed_alike_whether_frames_are_kept_or_not(shard, source, monkeypatch):
    recipe = RECIPES["audio"].replaced(batch_size=4, epochs=3)
    asked = []

    def batches(**changes):
        return list(
            training_data(source, recipe.replaced(**changes), 0, is_repeated=True, shard=shard).as_numpy_iterator()
        )

    def kept_inputs(make, count, *arguments):
        asked.append(count)
        return kept.kept_inputs(make, count, *arguments)

    monkeypatch.setattr(pipeline, "kept_inputs", kept_inputs)
    once = batches()
    whole = sum(fact["seconds"] <= 0.16 for fact in source.splits["train"].facts)
    assert asked == [whole]
    assert 0 < whole < len(source.splits["train"])
    held_out = list(evaluation_data(source, "validation", is_repeated=True).as_numpy_iterator())
    assert asked == [whole, len(source.splits["validation"])]
    require_same(held_out, list(evaluation_data(source, "validation").as_numpy_iterator()))
    batches(noise_std=0.1)
    list(training_data(source, recipe, 0).take(1))
    assert len(asked) == 2  # nothing is asked to be kept
    monkeypatch.setattr(kept, "CACHE_BYTES", source.splits["train"].examples.nbytes)
    require_same(once, batches())
    assert len(asked) == 3  # there was no room


def test_where_most_sounds_are_longer_none_are_kept(source, monkeypatch):
    monkeypatch.setattr(pipeline, "kept_inputs", lambda *_: pytest.fail("asked to keep some"))
    long = [place for place, fact in enumerate(source.splits["train"].facts) if fact["seconds"] > 0.16]
    few = dataclasses.replace(source, splits={**source.splits, "train": source.splits["train"].take([*long, 1])})
    recipe = RECIPES["audio"].replaced(batch_size=2, epochs=1)
    list(training_data(few, recipe, 0, is_repeated=True).as_numpy_iterator())


def test_nothing_is_kept_where_all_sounds_are_longer(sounds):
    def make(place):
        return {"x": tf.zeros((2,))}

    assert kept.kept_inputs(make, 0, sounds[0].examples) is None
    assert kept.kept_inputs(make, 3, sounds[0].examples)["x"].shape == (3, 2)
