"""Augmentation of images: functions of settings that return functions of one example and its seed.

Nothing here draws from anywhere but the seed, so that what an example becomes is a function of (seed, epoch, index),
whatever else runs beside it. Keras' own layers keep random state, which parallel calls would draw from in any order;
they are driven here by `Draws`, which has none.
"""

import keras
import tensorflow as tf

from keras_perceiver._checks import require_between
from keras_perceiver.data.images import Crop

CROP_OFFSET = 2  # no two augmentations draw the same numbers
ASPECT_RATIOS = (3 / 4, 4 / 3)  # least and greatest width of a crop by its height


def augment_image(
    *,
    crop_min_area=1.0,
    flip_rate=0.0,
    rand_augment_layers=0,
    rand_augment_magnitude=5.0,
    shift_rate=0.0,
    noise_std=0.0,
):
    """What happens to one picture of a training batch, in this order.

    Args:
        crop_min_area: least share of the picture's area that an Inception crop keeps; 1 for no crop.
        flip_rate: probability of a horizontal flip.
        rand_augment_layers: operations of RandAugment, one after the other; 0 for none.
        rand_augment_magnitude: of each, in [0, 10].
        shift_rate: probability of a move by one pixel up, down, left or right; zeros move in. Small pictures that fill
            their frame are hardly ever moved, so that more than a gentle shift trains for other data.
        noise_std: of Gaussian noise, in units of the pixels.

    Returns:
        Function `((H, W, c) float32 in [0, 255], (2,) int32 seed) -> (H, W, c) float32`.
    """
    steps = []  # each with its own offset
    if crop_min_area < 1:
        steps.append((CROP_OFFSET, inception_crop(crop_min_area)))
    if flip_rate:
        steps.append((3, random_flip(flip_rate)))
    if rand_augment_layers:
        steps.append((4, rand_augment(rand_augment_layers, rand_augment_magnitude)))
    if shift_rate:
        steps.append((0, lambda image, seed: shift_image(image, seed, shift_rate)))
    if noise_std:
        steps.append((1, lambda image, seed: image + noise_std * tf.random.stateless_normal(image.shape, seed)))

    def augment(image, seed):
        for offset, step in steps:
            image = step(image, tf.add(seed, [offset, 0]))
        return image

    return augment


def inception_crop(min_area, aspect_ratios=ASPECT_RATIOS):
    """A random part of the picture, of at least `min_area` of its area, resized to the whole (bilinear)."""
    require_between(0, 1, crop_min_area=min_area)

    def crop(image, seed):
        top, left, height, width = tf.unstack(inception_box(tf.shape(image)[:2], seed, min_area, aspect_ratios))
        part = image[top : top + height, left : left + width]
        # Antialiasing only matters where a picture becomes smaller, which a crop never does.
        return tf.ensure_shape(tf.image.resize(part, image.shape[:2]), image.shape)

    return crop


def inception_box(size, seed, min_area, aspect_ratios=ASPECT_RATIOS):
    """A random part of a picture (H, W): (top, left, height, width), (4,) int32, of at least `min_area` of its area."""
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([size, [1]], 0),
        tf.zeros((1, 0, 4)),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=aspect_ratios,
        area_range=(max(min_area, 1e-3), 1.0),
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], extent[:2]], 0)


def crop_of_files(min_area):
    """`inception_crop` of a picture as it is in its file: a function `(2,) int32 seed -> Crop`."""
    require_between(0, 1, crop_min_area=min_area)
    least_side = (max(min_area, 1e-3) * min(ASPECT_RATIOS)) ** 0.5  # of a square picture

    def crop(seed):
        return Crop(lambda size: inception_box(size, tf.add(seed, [CROP_OFFSET, 0]), min_area), least_side)

    return crop


def random_flip(rate):
    """Left becomes right, with probability `rate`."""

    def flip(image, seed):
        return tf.cond(tf.random.stateless_uniform((), seed) < rate, lambda: image[:, ::-1], lambda: image)

    return flip


def shift_image(image, seed, shift_rate):
    """Moves one (H, W, c) picture by a pixel in one of four directions, with probability `shift_rate`."""
    height, width, channels = image.shape
    padded = tf.pad(image, [[1, 1], [1, 1], [0, 0]])
    corners = tf.constant([[0, 1], [2, 1], [1, 0], [1, 2], [1, 1]])  # the last one leaves it where it is
    draw = tf.random.stateless_uniform((), seed) / shift_rate  # below 1: moved
    corner = corners[tf.minimum(tf.cast(draw * 4, tf.int32), 4)]
    return tf.slice(padded, tf.concat([corner, [0]], 0), [height, width, channels])


def rand_augment(num_layers, magnitude):
    """`num_layers` of Keras' operations on pictures, each drawn from all of them, at `magnitude` of 10.

    Keras' own `RandAugment` layer computes all operations for every picture and keeps one; here only the one that was
    drawn is computed. At magnitude 10 pictures are turned by up to 30 degrees, sheared by 0.3 and moved by 0.45 of
    their size, as in the paper of RandAugment (Cubuk et al. 2019); Keras' layer turns them by any angle.
    """
    operations = [tf.function(_on_one(operation)) for operation in keras_operations(magnitude / 10)]

    def augment(image, seed):
        for layer in range(num_layers):
            choice, draws = tf.unstack(tf.random.experimental.stateless_split(_fold(seed, layer), 2))
            index = tf.random.stateless_uniform((), choice, 0, len(operations), tf.int32)
            image = _apply_one(operations, index, image, draws)
        return image

    return augment


def keras_operations(strength):
    """The layers of RandAugment at a strength in [0, 1]; pixels in [0, 255]."""
    layers, pixels = keras.layers, (0, 255)
    return [
        layers.RandomShear(0.3 * strength, 0.3 * strength, dtype="float32"),
        layers.RandomTranslation(0.45 * strength, 0.45 * strength, dtype="float32"),
        layers.RandomRotation(30 / 360 * strength, dtype="float32"),
        layers.RandomBrightness(0.9 * strength, pixels, dtype="float32"),
        layers.RandomColorDegeneration(0.9 * strength, pixels, dtype="float32"),
        layers.RandomContrast(0.9 * strength, pixels, dtype="float32"),
        layers.RandomSharpness(0.9 * strength, pixels, dtype="float32"),
        layers.RandomPosterization(8 - round(4 * strength), pixels, dtype="float32"),  # bits that are kept
        layers.Solarization(0.0, strength, pixels, dtype="float32"),
        layers.AutoContrast(value_range=pixels, dtype="float32"),
        layers.Equalization(pixels, dtype="float32"),
    ]


def _apply_one(operations, index, image, seed):
    """What the `tf.function` with this index makes of one picture.

    Not by `tf.switch_case`: that is dissolved into one graph, the executor visits the nodes of all operations in it,
    and this takes longer than the operation that was drawn. Here they remain functions, of which one is called.
    """
    specs = tf.TensorSpec(image.shape), tf.TensorSpec((2,), tf.int32)
    branches = [operation.get_concrete_function(*specs) for operation in operations]
    (image,) = tf.raw_ops.StatelessCase(branch_index=index, input=[image, seed], Tout=[tf.float32], branches=branches)
    return tf.ensure_shape(image, specs[0].shape)


def _on_one(operation):
    return lambda image, seed: keras_augment(operation, image[None], seed)[0]


def mix_batch(*, mix_up=0.0, cut_mix=0.0):
    """MixUp and CutMix by Keras' layers: a function of a batch and its seed. With both, each batch draws one.

    Args:
        mix_up: α of the Beta distribution of the weights; 0 for none.
        cut_mix: CutMix' largest factor, in [0, 1]; 0 for none.

    Returns:
        Function `((B, H, W, c) float32, (B, classes) float32, (2,) int32 seed) -> (images, labels)`, or None.
    """
    layers = [keras.layers.MixUp(mix_up, dtype="float32")] if mix_up else []
    layers += [keras.layers.CutMix(cut_mix, dtype="float32")] if cut_mix else []
    if not layers:
        return None

    def mix(images, labels, seed):
        choice, draws = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        index = tf.random.stateless_uniform((), choice, 0, len(layers), tf.int32)
        mixed, labels_mixed = tf.switch_case(
            index, [lambda layer=layer: keras_augment(layer, images, draws, labels) for layer in layers]
        )
        return tf.ensure_shape(mixed, images.shape), tf.ensure_shape(labels_mixed, labels.shape)

    return mix


def keras_augment(layer, images, seed, labels=None):
    """One of Keras' augmentation layers as a function of a batch and its seed; with `labels`, both are returned."""
    transformation = layer.get_random_transformation(images, training=True, seed=Draws(seed))
    images = layer.transform_images(images, transformation, training=True)
    return images if labels is None else (images, layer.transform_labels(labels, transformation, training=True))


class Draws(keras.random.SeedGenerator):
    """Seeds for Keras' random functions that follow from one (2,) seed: no state but their number."""

    def __init__(self, seed):  # not the parent's, which makes a variable
        self._seed = seed
        self._count = 0

    def next(self, ordered=True):
        self._count += 1
        return _fold(self._seed, self._count)


def _fold(seed, number):
    return tf.random.experimental.stateless_fold_in(seed, number)
