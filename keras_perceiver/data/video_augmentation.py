"""Augmentation of video: what happens to one frame of a clip happens to all of them."""

import keras
import tensorflow as tf

from keras_perceiver._checks import require_between
from keras_perceiver.data.augment import inception_crop, keras_augment, random_flip


def augment_video(*, crop_min_area=1.0, flip_rate=0.0, color_jitter=0.0):
    """What happens to one clip of a training batch, in this order: a crop, a flip, other colours.

    Args:
        crop_min_area, flip_rate: see `augment_image`.
        color_jitter: strength in [0, 1) of changes of brightness, contrast and saturation, drawn once for a clip.

    Returns:
        Function `((T, H, W, 3) float32 in [0, 255], (2,) int32 seed) -> (T, H, W, 3) float32`.
    """
    require_between(0, 1, color_jitter=color_jitter)
    steps = []  # each with its own offset, so that no two draw the same numbers
    if crop_min_area < 1:
        steps.append((2, frames_alike(inception_crop(crop_min_area))))
    if flip_rate:
        steps.append((3, frames_alike(random_flip(flip_rate))))
    if color_jitter:
        steps.append((5, jitter_colors(color_jitter)))

    def augment(clip, seed):
        for offset, step in steps:
            clip = step(clip, tf.add(seed, [offset, 0]))
        return clip

    return augment


def frames_alike(augment):
    """An augmentation of pictures that moves pixels, for clips: their frames stand side by side as channels."""

    def augment_clip(clip, seed):
        frames, height, width, channels = clip.shape
        picture = tf.reshape(tf.transpose(clip, (1, 2, 0, 3)), (height, width, frames * channels))
        picture = tf.reshape(augment(picture, seed), (height, width, frames, channels))
        return tf.transpose(picture, (2, 0, 1, 3))

    return augment_clip


def jitter_colors(strength):
    """Other brightness, contrast and saturation, for clips: their frames stand below each other as one picture."""
    settings = {"value_range": (0, 1), "dtype": "float32"}  # Keras' saturation is right in no other range
    layers = [
        keras.layers.RandomBrightness(strength, **settings),
        keras.layers.RandomContrast(strength, **settings),
        keras.layers.RandomSaturation((0.5 - strength / 2, 0.5 + strength / 2), **settings),  # 0.5 changes nothing
    ]

    def augment_clip(clip, seed):
        frames, height, width, channels = clip.shape
        picture = tf.reshape(clip / 255, (1, frames * height, width, channels))
        for number, layer in enumerate(layers):
            picture = keras_augment(layer, picture, tf.random.experimental.stateless_fold_in(seed, number))
        return tf.reshape(picture * 255, clip.shape)

    return augment_clip
