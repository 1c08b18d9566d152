"""Images: reading, what every model needs in front of it, and augmentation."""

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from keras_perceiver._checks import InputError, require


def normalize_pixels(images):
    """Pixels in [0, 255] -> [-1, 1], float32.

    The one function between raw images and the model: the tf.data pipeline and the exported
    SavedModel both call it, so that training and serving cannot disagree.
    """
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def augment_image(*, shift_rate=0.0, noise_std=0.0):
    """Light augmentation for small pictures: a function of one picture and its seed.

    The digits are cropped to their box and fill all rows: a picture to be read is hardly ever moved, so
    that more than a gentle shift trains for other data.

    Args:
        shift_rate: probability of a move by one pixel up, down, left or right; zeros move in.
        noise_std: of Gaussian noise, in units of the pixels.

    Returns:
        Function `((H, W, c) float32 in [0, 255], (2,) int32 seed) -> (H, W, c) float32`, which draws nothing
        but from its seed.
    """

    def augment(image, seed):
        if shift_rate:
            image = shift_image(image, seed, shift_rate)
        if noise_std:
            image = image + noise_std * tf.random.stateless_normal(image.shape, tf.add(seed, [1, 0]))
        return image

    return augment


def shift_image(image, seed, shift_rate):
    """Moves one (H, W, c) picture by a pixel in one of four directions, with probability `shift_rate`."""
    height, width, channels = image.shape
    padded = tf.pad(image, [[1, 1], [1, 1], [0, 0]])
    corners = tf.constant([[0, 1], [2, 1], [1, 0], [1, 2], [1, 1]])  # the last one leaves it where it is
    draw = tf.random.stateless_uniform((), seed) / shift_rate  # below 1: moved
    corner = corners[tf.minimum(tf.cast(draw * 4, tf.int32), 4)]
    return tf.slice(padded, tf.concat([corner, [0]], 0), [height, width, channels])


def read_image(path, shape, *, invert=False):
    """Reads a picture of any format that Pillow knows and turns it to what a model expects.

    The orientation of the camera is applied, what is transparent becomes background (black, or white with
    `invert`), colours become grey or grey becomes colours, and the picture is resized by
    area averaging, as `digits` were made.

    Args:
        path: of the file.
        shape: (H, W, c) with c = 1 (grey) or 3 (colour).
        invert: turn dark ink on white into light ink on black.

    Returns:
        (H, W, c) float32 in [0, 255].

    Raises:
        InputError: where the file is missing or is no picture that can be decoded.
    """
    height, width, channels = shape
    require(channels in (1, 3), "A model of pictures must have 1 or 3 channels", shape=tuple(shape))
    try:
        with Image.open(path) as image:
            image = _eight_bits(ImageOps.exif_transpose(image)).convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"`{path}` must be a readable picture (PNG, JPEG, ..). {error}") from error
    background = Image.new("RGBA", image.size, "white" if invert else "black")
    image = Image.alpha_composite(background, image).convert("L" if channels == 1 else "RGB")
    image = image.resize((width, height), Image.Resampling.BOX)
    pixels = np.asarray(image, np.float32).reshape(height, width, channels)
    return 255.0 - pixels if invert else pixels


def _eight_bits(image):
    """A grey picture of 16 bits as one of 8; Pillow's own conversion would clip it."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    return image
