"""Splits -> `tf.data`: one builder for training and one for evaluation.

The order of the data and every augmentation are functions of (seed, epoch, index of the example): a run
can be repeated, and one that was killed goes on with exactly the batches it would have seen.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_perceiver._checks import require, require_positive
from keras_perceiver.data.examples import Lazy
from keras_perceiver.data.kept import is_decoded_once, kept_inputs

MIX_OFFSET = 1_000_000_007  # beyond the index of any example: batches draw other seeds than examples


class Keep(NamedTuple):
    """Which examples enter a model alike in every epoch, whatever is drawn: those at `indices`, as `clip` of them."""

    indices: np.ndarray
    clip: Callable


class Shard(NamedTuple):
    """The replicas of a model that this process feeds: `local` from `first` on, of `total` in all processes, of which
    each feeds as many."""

    first: int
    local: int
    total: int


WHOLE = Shard(0, 1, 1)


def training_dataset(
    split,
    *,
    batch_size,
    num_classes,
    seed,
    num_epochs,
    first_epoch=0,
    first_step=0,
    preprocess,
    augment=None,
    mix=None,
    hide=None,
    keep=None,
    shard=WHOLE,
    read=None,
    service=None,
    num_parallel_calls=tf.data.AUTOTUNE,
    console=None,
):
    """Shuffled, augmented batches of the epochs up to `num_epochs`, one after the other.

    The last incomplete batch of an epoch is left out (other examples each time), so that all
    batches have one static shape and XLA compiles the training step once.

    Where a model has several replicas, each is fed an equal part of every batch, and the parts together are the batch
    that a single one would be fed. Only the process' own parts are decoded and augmented; with `mix` or `hide`, which
    draw for a whole batch, the whole batch is made first.

    Args:
        split: the `Split` to train on.
        batch_size: B, at most the number of examples; of all replicas together, and a multiple of their number.
        num_classes: width of the one-hot labels.
        seed: of the order and the augmentation.
        num_epochs: epochs of the whole run.
        first_epoch: 0, or the epoch in which a resumed run goes on.
        first_step: 0, or how many batches of that epoch are done; they are neither decoded nor augmented again.
        preprocess: function of raw examples, one or a batch of them, see `Modality.preprocess`.
        augment: optional function `(raw example float32, (2,) int32 seed) -> example`.
        mix: optional function `(raw batch float32, labels, (2,) int32 seed) -> (batch, labels)`.
        hide: optional function `(preprocessed batch, (2,) int32 seed) -> batch`, such as SpecAugment.
        keep: the examples that are preprocessed once, see `Keep`, where there is room, see `kept_inputs`; None for
            none. Not together with `mix`.
        shard: the `Shard` of this process.
        read: function of an index in the split and a (2,) int32 seed that returns the raw example, such as
            `part_reader` and `service_reader` make; None for examples that are decoded once where there is room.
        service: function that gives the data set to a data service, see `through_service`; None for none.
        num_parallel_calls: examples that are made ready at once; changes nothing but the speed.
        console: `rich.console.Console` for the progress of decoding what is kept; None for none.

    Returns:
        `tf.data.Dataset` of `((B, ..) float32, (B, num_classes) float32)`, or of what `preprocess` makes of examples
        with several fields; `steps_per_epoch(split, batch_size)` batches an epoch. With a shard, a batch of
        B / shard.total for each of its replicas in turn.
    """
    steps = steps_per_epoch(split, batch_size)
    require_divisible(batch_size, shard.total)
    part, is_cut_late = batch_size // shard.total, shard.total > 1 and not (mix is None and hide is None)
    made = shard.local if not is_cut_late else shard.total  # parts of a batch that are made here
    read = read or _raw_reader(split.examples, console)
    label = _label_reader(split, num_classes)
    kept, place_of = _kept_of(split, keep, read, preprocess, console)
    is_within_epoch = first_step > 0  # also behind its last step, where its validation is still to come
    first_epoch, first_step = divmod(first_epoch * steps + first_step, steps)

    def epoch_batches(epoch):
        seed_of_epoch = epoch_seed(seed, epoch)
        done = tf.where(epoch == first_epoch, tf.constant(first_step, tf.int64), 0)

        def augmented(index):
            own_seed = _shifted(seed_of_epoch, index)

            def drawn():
                x = read(index, own_seed)
                x = x if isinstance(x, dict) else tf.cast(x, tf.float32)
                return x if augment is None else augment(x, own_seed)

            if kept is None:
                return drawn(), label(index)
            place = place_of[index]
            x = tf.cond(place < 0, lambda: preprocess(drawn()), lambda: {name: x[place] for name, x in kept.items()})
            return x, label(index)

        def finished(number, batch):
            x, y = batch
            batch_seed = _shifted(seed_of_epoch, MIX_OFFSET + tf.cast(number, tf.int32))
            if mix is not None:
                x, y = mix(x, y, batch_seed)
            if kept is None:
                x = preprocess(x)
            return (x if hide is None else hide(x, batch_seed)), y

        # The order first: to shuffle indices costs nothing, and no buffer has to be as large as the data.
        order = epoch_order(len(split), seed, epoch)[done * batch_size :]
        if shard.total > 1 and not is_cut_late:
            order = _own_part(order[: (steps - done) * batch_size], shard, part)
        batches = tf.data.Dataset.from_tensor_slices(order)
        # Decoded and augmented one by one and in parallel, but in order: each call draws from its own seed alone.
        batches = batches.map(augmented, num_parallel_calls=num_parallel_calls, deterministic=True)
        batches = batches.batch(made * part, drop_remainder=True)
        # Mixed while they are still pictures, before pixels are permuted: a box of CutMix is a box of the picture.
        # What stands before the model comes last, as when it is served; a batch at a time costs less.
        return batches.enumerate(done).map(finished, num_parallel_calls=num_parallel_calls, deterministic=True)

    dataset = tf.data.Dataset.range(first_epoch, num_epochs).flat_map(epoch_batches)
    if is_cut_late:
        own = slice(shard.first * part, (shard.first + shard.local) * part)
        dataset = dataset.map(lambda *batch: tf.nest.map_structure(lambda values: values[own], batch))
    if shard.local > 1:
        dataset = dataset.rebatch(part, drop_remainder=True)
    if service is not None:
        dataset = service(dataset)
    if not is_within_epoch:  # else `fit` counts the steps that are done too, and would stop at the number that are left
        batches = steps * (num_epochs - first_epoch) * shard.local
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(batches))
    return dataset.prefetch(tf.data.AUTOTUNE)  # the next batch is made while the model trains on this one


def _own_part(order, shard, part):
    """Of the indices of whole batches those that the replicas of a process are fed, in their order."""
    parts = tf.reshape(order, (-1, shard.total, part))
    return tf.reshape(parts[:, shard.first : shard.first + shard.local], (-1,))


def evaluation_dataset(
    split,
    *,
    batch_size,
    num_classes,
    preprocess,
    clip=None,
    clips=None,
    is_kept=False,
    shard=WHOLE,
    console=None,
):
    """Every example, in order; the batch dimension stays open, the last batch may be smaller. Batches are made smaller,
    by half at most, where all are of one size then: XLA compiles a model for each size that it meets.

    With a shard, `evaluation_steps` says into how many steps the examples are divided, and each step is divided among
    the replicas: in parts that differ by one example at most, so that no replica is ever without any.

    Args:
        split, batch_size, num_classes, preprocess, shard, console: see `training_dataset`.
        clip: function `(raw example, number of a clip, how many there are) -> what preprocess takes`, for examples of
            which parts are looked at; None for whole ones.
        clips: (n,) integers: how many clips of each example, one after the other; None for one.
        is_kept: whether all are preprocessed once, where there is room, see `kept_inputs`: for who evaluates often.

    Returns:
        `tf.data.Dataset` of `((B, ..) float32, (B, num_classes) float32)`.
    """
    require_positive(batch_size=batch_size)
    read, label = _raw_reader(split.examples, console), _label_reader(split, num_classes)
    counts = np.ones(len(split), np.int32) if clips is None else np.asarray(clips, np.int32)
    index = np.repeat(np.arange(len(split)), counts)
    number = (np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)).astype(np.int32)

    def clipped(index, number, count):
        x = read(index, None)
        return x if clip is None else clip(x, number, count)

    parts = None
    if shard.total > 1:
        parts = _evaluation_parts(len(index), batch_size, shard)
        own = np.concatenate(parts)
        index, number = index[own], number[own]
    each, kept = [tf.constant(values, tf.int32) for values in (index, number, counts[index])], None
    if is_kept:
        kept = kept_inputs(
            lambda place: preprocess(clipped(*(values[place] for values in each))), len(index), split.examples, console
        )
    if kept is None:
        dataset = tf.data.Dataset.from_tensor_slices(tuple(each))
        dataset = dataset.map(
            lambda index, number, count: (clipped(index, number, count), label(index)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    else:
        dataset = tf.data.Dataset.from_tensor_slices((kept, each[0])).map(lambda x, index: (x, label(index)))
    dataset = dataset.batch(_even_batch(len(index), batch_size))
    if parts is not None:
        dataset = dataset.rebatch([len(part) for part in parts])
    if kept is None:
        dataset = dataset.map(lambda x, y: (preprocess(x), y))
    return dataset.prefetch(tf.data.AUTOTUNE)


def evaluation_steps(count, batch_size):
    """Steps in which `evaluation_dataset` gives so many examples (or clips of them)."""
    return -(-count // _even_batch(count, batch_size))


def _even_batch(count, batch_size):
    """The largest batch size, above half of the given one, that divides the count; the given one if there is none."""
    return next((size for size in range(batch_size, batch_size // 2, -1) if count % size == 0), batch_size)


def _evaluation_parts(count, batch_size, shard):
    """The indices of each batch that a process is given, for each of its replicas in turn.

    What several workers have predicted is joined by Keras in the order of first replicas, second replicas, ..
    """
    steps = evaluation_steps(count, batch_size)
    require(
        count >= steps * shard.total,
        "A split must have an example for each replica",
        examples=count,
        replicas=shard.total,
    )
    return [
        part
        for step in np.array_split(np.arange(count), steps)
        for part in np.array_split(step, shard.total)[shard.first // shard.local :: shard.total // shard.local]
    ]


def _label_reader(split, num_classes):
    """A function of an index: the labels (num_classes,) float32 of that example."""
    labels = tf.constant(split.labels)
    if split.is_multi_label:
        return lambda index: tf.cast(labels[index], tf.float32)
    return lambda index: tf.one_hot(labels[index], num_classes)


def _raw_reader(examples, console):
    """A function `(index, seed) -> raw example`, which needs no seed, for use in `Dataset.map`.

    A raw example is a tensor, or `{field: tensor}` where examples are kept with a structured dtype.

    What there is room for is decoded first, in parallel, and lies in memory; what does not is decoded by every call.
    """
    if not is_decoded_once(examples):
        return lambda index, seed: _decoded(examples, index)
    arrays = fields(examples.array(console) if isinstance(examples, Lazy) else examples)
    return lambda index, seed: tf.nest.map_structure(lambda array: array[index], arrays)


def _kept_of(split, keep, read, preprocess, console):
    """`({input: (k, ..)}, (n,) where in them an example stands, or -1)`; (None, None) where none are kept."""
    if keep is None:
        return None, None
    indices = tf.constant(keep.indices, tf.int32)

    def make(place):
        return preprocess(keep.clip(read(indices[place], None)))

    kept, place_of = kept_inputs(make, len(keep.indices), split.examples, console), np.full(len(split), -1, np.int32)
    place_of[keep.indices] = np.arange(len(keep.indices))
    return (None, None) if kept is None else (kept, tf.constant(place_of))


def part_reader(examples, crop):
    """A function `(index, seed) -> raw example` that reads parts of pictures from their files, each time anew.

    Args:
        examples: a `Lazy` that has parts.
        crop: function `(2,) int32 seed -> Crop`.
    """

    def part(index, seed):
        with tf.device("CPU:0"):  # not a GPU that is training
            return examples.part(int(index), crop(seed))

    def read(index, seed):
        x = tf.numpy_function(part, [index, seed], examples.dtype, stateful=False)
        return tf.ensure_shape(x, examples.shape[1:])

    return read


def fields(examples):
    """A NumPy array as a tensor; one with a structured dtype as `{field: tensor}`."""
    names = examples.dtype.names
    with tf.device("CPU:0"):  # where they are read
        return tf.constant(examples) if names is None else {name: tf.constant(examples[name]) for name in names}


def _decoded(examples, index):
    """Example `index` of a `Lazy` as a tensor or `{field: tensor}`, decoded when the graph runs."""
    names, shape = examples.dtype.names, tuple(examples.shape[1:])
    if names is None:
        x = tf.numpy_function(lambda i: examples[int(i)], [index], examples.dtype, stateful=False)
        return tf.ensure_shape(x, shape)
    inner = [examples.dtype[name] for name in names]

    def read(i):
        example = examples[int(i)]
        return [example[name] for name in names]

    tensors = tf.numpy_function(read, [index], [kind.base for kind in inner], stateful=False)
    return {n: tf.ensure_shape(x, shape + k.shape) for n, x, k in zip(names, tensors, inner, strict=True)}


def require_divisible(batch_size, replicas):
    """Requires a batch to be divided among so many replicas without a rest."""
    low = batch_size // replicas * replicas
    require(
        batch_size % replicas == 0,
        "`batch_size`, of all replicas together, must be a multiple of their number",
        batch_size=batch_size,
        replicas=replicas,
        repair=f"Take {f'{low} or ' if low else ''}{low + replicas}.",
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


def epoch_order(count, seed, epoch):
    """(count,) the examples in the order of that epoch: batch b holds those from b * batch_size on."""
    return tf.random.experimental.stateless_shuffle(tf.range(count), epoch_seed(seed, epoch))


def epoch_seed(seed, epoch):
    """(2,) int32, hashed: neighbouring epochs and neighbouring indices must not add up to the same seed."""
    return tf.random.stateless_uniform((2,), (seed, epoch), None, None, tf.int32)


def _shifted(seed_of_epoch, number):
    """The seed of one example or batch of an epoch."""
    return tf.stack([seed_of_epoch[0], seed_of_epoch[1] + number])
