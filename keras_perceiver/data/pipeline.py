"""Splits -> `tf.data`: one builder for training and one for evaluation.

The order of the data and every augmentation are functions of (seed, epoch, index of the example): a run
can be repeated, and one that was killed goes on with exactly the batches it would have seen.
"""

import tensorflow as tf

from keras_perceiver._checks import require, require_positive


def training_dataset(split, *, batch_size, num_classes, seed, num_epochs, first_epoch=0, preprocess, augment=None):
    """Shuffled, augmented batches of `num_epochs - first_epoch` epochs, one after the other.

    The last incomplete batch of an epoch is left out (other examples each time), so that all
    batches have one static shape and XLA compiles the training step once.

    Args:
        split: the `Split` to train on.
        batch_size: B, at most the number of examples.
        num_classes: width of the one-hot labels.
        seed: of the order and the augmentation.
        num_epochs: epochs of the whole run.
        first_epoch: 0, or the epoch at which a resumed run goes on.
        preprocess: function of raw examples, one or a batch of them, such as `normalize_pixels`.
        augment: optional function `(raw example float32, (2,) int32 seed) -> example`.

    Returns:
        `tf.data.Dataset` of `((B, ..) float32, (B, num_classes) float32)`;
        `steps_per_epoch(split, batch_size)` batches an epoch.
    """
    count = len(split)
    examples, labels = tf.constant(split.examples), tf.constant(split.labels)

    def epoch_batches(epoch):
        # Hashed, as neighbouring epochs and neighbouring indices must not add up to the same seed.
        epoch_seed = tf.random.stateless_uniform((2,), (seed, epoch), None, None, tf.int32)
        order = tf.random.experimental.stateless_shuffle(tf.range(count), epoch_seed)
        chosen = tf.data.Dataset.from_tensor_slices(order)
        chosen = chosen.map(lambda index: make_example(index, epoch_seed), num_parallel_calls=tf.data.AUTOTUNE)
        return chosen.batch(batch_size, drop_remainder=True)

    def make_example(index, epoch_seed):
        x = tf.cast(examples[index], tf.float32)
        if augment is not None:
            x = augment(x, tf.stack([epoch_seed[0], epoch_seed[1] + index]))
        return preprocess(x), tf.one_hot(labels[index], num_classes)

    steps = steps_per_epoch(split, batch_size)
    dataset = tf.data.Dataset.range(first_epoch, num_epochs).flat_map(epoch_batches)
    return dataset.apply(tf.data.experimental.assert_cardinality(steps * (num_epochs - first_epoch))).prefetch(
        tf.data.AUTOTUNE
    )


def steps_per_epoch(split, batch_size):
    """Number of batches that `training_dataset` gives an epoch; checks that there is one."""
    require_positive(batch_size=batch_size)
    require(
        batch_size <= len(split),
        "`batch_size` must be at most the number of training examples",
        batch_size=batch_size,
        examples=len(split),
    )
    return len(split) // batch_size


def evaluation_dataset(split, *, batch_size, num_classes, preprocess):
    """Every example once, in order; the batch dimension stays open, the last batch may be smaller.

    Returns:
        `tf.data.Dataset` of `((B, ..) float32, (B, num_classes) float32)`.
    """
    require_positive(batch_size=batch_size)
    dataset = tf.data.Dataset.from_tensor_slices((split.examples, split.labels)).batch(batch_size)
    return dataset.map(lambda x, y: (preprocess(x), tf.one_hot(y, num_classes))).prefetch(tf.data.AUTOTUNE)
