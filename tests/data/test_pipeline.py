"""Splits -> tf.data: order, labels, resuming, and what an epoch holds."""

import dataclasses
import functools
import hashlib
import operator
import threading

import numpy as np
import pytest
import tensorflow as tf

from keras_perceiver._checks import InputError
from keras_perceiver.data import (
    Lazy,
    Split,
    augment_image,
    evaluation_dataset,
    kept,
    load_source,
    mix_batch,
    pipeline,
    steps_per_epoch,
    training_dataset,
)
from keras_perceiver.data.augment import crop_of_files
from keras_perceiver.data.pipeline import evaluation_steps, part_reader
from keras_perceiver.training import RECIPES
from keras_perceiver.training.feeding import crops_before_resizing, training_data
from tests.pictures import write_pictures

COUNT, CLASSES = 21, 3
# Every example says who it is, and its label follows from that.
SPLIT = Split(np.arange(COUNT, dtype=np.uint8).reshape(COUNT, 1, 1, 1), (np.arange(COUNT) % CLASSES).astype(np.int32))


def training(**changes):
    settings = {
        "batch_size": 7,
        "num_classes": CLASSES,
        "seed": 5,
        "num_epochs": 4,
        "preprocess": lambda x: tf.cast(x, tf.float32),
    }
    return training_dataset(changes.pop("split", SPLIT), **{**settings, **changes})


def who(dataset):
    return [x.numpy().astype(int).ravel().tolist() for x, _ in dataset]


def test_every_epoch_holds_every_example_once_in_another_order():
    batches = who(training())
    epochs = [functools.reduce(operator.iadd, batches[i : i + 3], []) for i in range(0, 12, 3)]
    assert len(batches) == 12
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_labels_stay_with_their_examples():
    for x, y in training():
        np.testing.assert_array_equal(y.numpy().argmax(axis=1), x.numpy().ravel() % CLASSES)
        np.testing.assert_array_equal(y.numpy().sum(axis=1), 1)
    for x, y in evaluation_dataset(SPLIT, batch_size=5, num_classes=CLASSES, preprocess=lambda x: x):
        np.testing.assert_array_equal(y.numpy().argmax(axis=1), x.numpy().ravel() % CLASSES)


@pytest.mark.parametrize(
    ("count", "batch", "sizes"), [(12, 8, [6, 6]), (12, 6, [6, 6]), (11, 8, [8, 3]), (5, 8, [5]), (10, 8, [5, 5])]
)
def test_batches_of_evaluation_are_of_one_size_where_they_can_be(count, batch, sizes):
    split = Split(np.arange(count, dtype=np.float32)[:, None], np.zeros(count, np.int32))
    dataset = evaluation_dataset(split, batch_size=batch, num_classes=2, preprocess=lambda x: x)
    assert [len(x) for x, _ in dataset] == sizes
    assert evaluation_steps(count, batch) == len(sizes)


def test_parts_of_pictures_are_a_function_of_seed_epoch_and_index():
    """Each example says who it is and where it was cut."""

    def fetch(key, crop=None):
        box = (0, 0, 40, 40) if crop is None else np.asarray(crop.box((40, 40)))
        return np.array([key, *box]).reshape(1, 1, 5)

    split = Split(Lazy(fetch, range(COUNT), (1, 1, 5), np.uint8, has_parts=True), SPLIT.labels)
    changes = {"split": split, "read": part_reader(split.examples, crop_of_files(0.1))}

    def boxes(**more):
        rows = np.concatenate([x.numpy().reshape(-1, 5) for x, _ in training(**changes, **more)]).astype(int)
        return {(place // COUNT, row[0]): tuple(row[1:]) for place, row in enumerate(rows.tolist())}

    found = boxes()
    assert len(found) == 4 * COUNT
    assert len(set(found.values())) > 3 * COUNT
    assert found == boxes(num_parallel_calls=1)
    assert not set(found.items()) & set(boxes(seed=6).items())
    assert boxes(first_epoch=2) == {(epoch - 2, who): box for (epoch, who), box in found.items() if epoch >= 2}


def test_the_paper_crops_files_and_other_recipes_what_was_resized(tmp_path):
    write_pictures(tmp_path, {"cat": 20, "dog": 20})
    source = load_source(tmp_path)
    paper, ours = RECIPES["imagenet"].replaced(rand_augment_layers=0), RECIPES["image"]
    assert crops_before_resizing(source, paper)
    assert not crops_before_resizing(source, paper.replaced(crop_min_area=1.0))
    assert not crops_before_resizing(source, ours)
    assert not crops_before_resizing(load_source("digits"), paper)
    asked, examples = [], source.splits["train"].examples
    examples.part = lambda i, crop: (asked.append(i), np.full(examples.shape[1:], 7, np.uint8))[1]
    recipe = paper.replaced(batch_size=8, flip_rate=0.0, mix_up=0.0, cut_mix=0.0)
    x, _ = next(iter(training_data(source, recipe, 0, preprocess={})))
    assert len(set(asked)) >= 8
    np.testing.assert_allclose(x, 7 / 127.5 - 1, atol=1e-6, err_msg="nothing but what was read is trained on")


def test_the_order_is_a_function_of_the_seed():
    assert who(training()) == who(training())
    assert who(training()) != who(training(seed=6))


def test_a_resumed_run_sees_the_batches_that_it_would_have_seen():
    def noisy(x, seed):
        return x + tf.random.stateless_uniform((1, 1, 1), seed)

    def shifted(x, y, seed):
        return x + tf.random.stateless_uniform((), seed), y

    whole = [x.numpy() for x, _ in training(augment=noisy, mix=shifted)]
    for first_epoch, first_step in ((2, 0), (2, 2), (0, 1), (1, 3)):
        rest = training(augment=noisy, mix=shifted, first_epoch=first_epoch, first_step=first_step)
        np.testing.assert_array_equal(whole[3 * first_epoch + first_step :], [x.numpy() for x, _ in rest])
    assert list(training(first_epoch=3, first_step=3)) == []


def test_a_resumed_run_does_not_read_what_is_done():
    read = []

    def fetch(i):
        read.append(i)
        return SPLIT.examples[i]

    # More bytes than are kept, so that examples are read when they are asked for.
    lazy = Split(Lazy(fetch, range(COUNT), (1, 1, 1), np.uint8), SPLIT.labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "CACHE_BYTES", 0)
        batches = who(training(split=lazy, num_epochs=1, first_step=2))
    assert sorted(read) == sorted(batches[0])
    order = pipeline.epoch_order(COUNT, 5, 0).numpy()
    assert batches == [order[14:].tolist()]


def test_augmentation_draws_anew_for_each_example_and_epoch():
    batches = training(augment=lambda x, seed: seed, preprocess=lambda x: x)
    seeds = {tuple(row) for x, _ in batches for row in x.numpy().tolist()}
    assert len(seeds) == 4 * COUNT


def test_batches_of_training_have_one_static_shape_and_an_incomplete_one_is_left_out():
    dataset = training(batch_size=5)
    assert dataset.element_spec[0].shape == (5, 1, 1, 1)
    assert len(who(dataset)) == 4 * 4 == 4 * steps_per_epoch(SPLIT, 5)


def test_evaluation_sees_every_example_in_order_with_an_open_batch():
    dataset = evaluation_dataset(SPLIT, batch_size=8, num_classes=CLASSES, preprocess=lambda x: x)
    assert dataset.element_spec[0].shape == (None, 1, 1, 1)
    assert functools.reduce(operator.iadd, who(dataset), []) == list(range(COUNT))


@pytest.mark.parametrize("batch_size", [0, COUNT + 1, 2.5])
def test_an_illegal_batch_size_is_refused(batch_size):
    with pytest.raises(InputError, match=r"`batch_size` must be .* Received: batch_size="):
        training(batch_size=batch_size)


# Examples that are decoded when they are asked for


@pytest.fixture
def lazy():
    """The split of this file, decoded on demand, and the list of what was decoded."""
    decoded, lock = [], threading.Lock()

    def fetch(key):
        with lock:
            decoded.append(key)
        return np.full((1, 1, 1), key, np.float32)

    return dataclasses.replace(SPLIT, examples=Lazy(fetch, range(COUNT), (1, 1, 1), "uint8")), decoded


def test_what_fits_into_memory_is_decoded_once(lazy):
    split, decoded = lazy
    assert who(training(split=split)) == who(training())
    assert who(evaluation_dataset(split, batch_size=8, num_classes=CLASSES, preprocess=lambda x: x))
    assert sorted(decoded) == list(range(COUNT))


def test_what_does_not_fit_is_decoded_every_epoch_and_gives_the_same(lazy, monkeypatch):
    split, decoded = lazy
    monkeypatch.setattr(kept, "CACHE_BYTES", COUNT - 1)
    dataset = training(split=split)
    assert dataset.element_spec[0].shape == (7, 1, 1, 1)
    assert who(dataset) == who(training())
    assert sorted(decoded) == sorted(4 * list(range(COUNT)))


def test_lazy_examples_are_like_an_array(lazy):
    examples, decoded = lazy[0].examples, lazy[1]
    assert (len(examples), examples.shape, examples.nbytes, examples.dtype) == (COUNT, (COUNT, 1, 1, 1), COUNT, "uint8")
    some = examples[np.array([3, 17])]
    assert (len(some), some.shape, decoded) == (2, (2, 1, 1, 1), [])
    np.testing.assert_array_equal(some.array().ravel(), [3, 17])
    assert examples[5].dtype == np.uint8


def test_an_error_of_the_reader_reaches_who_trains(monkeypatch):
    def fail(key):
        raise InputError(f"`{key}` has gone")

    split = dataclasses.replace(SPLIT, examples=Lazy(fail, range(COUNT), (1, 1, 1), "uint8"))
    with pytest.raises(InputError, match="has gone"):
        who(training(split=split))
    monkeypatch.setattr(kept, "CACHE_BYTES", 0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="has gone"):
        who(training(split=split))


# Functions of (seed, epoch, index)

PICTURES = Split(np.random.default_rng(1).integers(0, 256, (COUNT, 9, 7, 3)).astype(np.uint8), SPLIT.labels)


def pictures(**changes):
    augment = augment_image(crop_min_area=0.4, flip_rate=0.5, rand_augment_layers=1, noise_std=2.0)
    mix = mix_batch(mix_up=0.4, cut_mix=1.0)
    batches = training(split=PICTURES, augment=augment, mix=mix, num_epochs=3, **changes)
    return [(x.numpy(), y.numpy()) for x, y in batches]


def test_repeated_resumed_and_however_parallel_the_batches_are_the_same():
    whole = pictures(num_parallel_calls=1)
    for other, first in ((pictures(num_parallel_calls=7), 0), (pictures(first_epoch=2), 6)):
        assert len(other) == 9 - first
        for (x, y), (x_other, y_other) in zip(whole[first:], other, strict=True):
            np.testing.assert_array_equal(x, x_other)
            np.testing.assert_array_equal(y, y_other)
    assert not np.array_equal(whole[0][0], pictures(seed=6)[0][0])


def test_mixed_labels_sum_to_one_and_batches_are_mixed_apart():
    mixed = [y for _, y in pictures()]
    np.testing.assert_allclose([y.sum(axis=1) for y in mixed], 1, atol=1e-5)
    assert any(((y > 0.01) & (y < 0.99)).any() for y in mixed)


def test_several_labels_an_example_stay_as_they_are():
    labels = np.random.default_rng(2).integers(0, 2, (COUNT, CLASSES)).astype(np.int32)
    split = Split(SPLIT.examples, labels)
    for x, y in training(split=split):
        np.testing.assert_array_equal(y, labels[x.numpy().astype(int).ravel()])


def test_the_data_of_the_digits_are_those_of_the_published_figures():
    """Order and shifts to the last bit; noise comes from functions that may round otherwise on other processors."""
    recipe = RECIPES["digits"].replaced(epochs=2, noise_std=0.0)
    digest = hashlib.sha256()
    for x, y in training_data(load_source("digits"), recipe, 4):
        digest.update(x.numpy().tobytes() + y.numpy().tobytes())
    assert digest.hexdigest()[:16] == "edd8f2194fb57dd3"
