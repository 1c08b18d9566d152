"""Splits -> tf.data: order, labels, resuming, and what an epoch holds."""

import functools
import operator

import numpy as np
import pytest
import tensorflow as tf

from keras_perceiver._checks import InputError
from keras_perceiver.data.pipeline import evaluation_dataset, steps_per_epoch, training_dataset
from keras_perceiver.data.sources import Split

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
    return training_dataset(SPLIT, **{**settings, **changes})


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


def test_the_order_is_a_function_of_the_seed():
    assert who(training()) == who(training())
    assert who(training()) != who(training(seed=6))


def test_a_resumed_run_sees_the_batches_that_it_would_have_seen():
    def noisy(x, seed):
        return x + tf.random.stateless_uniform((1, 1, 1), seed)

    whole = [x.numpy() for x, _ in training(augment=noisy)]
    rest = [x.numpy() for x, _ in training(augment=noisy, first_epoch=2)]
    np.testing.assert_array_equal(whole[6:], rest)


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
