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


def augment_images(images, seeds, *, max_shift=0, noise_std=0.0):
    """Moves pictures by whole pixels and adds noise; what is drawn depends on the seeds alone.

    Pictures as small as the digits are not turned or moved by parts of a pixel: interpolation
    blurs them into one another and costs several points of accuracy.

    Args:
        images: (B, H, W, c) float32 in [0, 255].
        seeds: (B, 2) int32, one seed per example.
        max_shift: pixels up, down, left or right; zeros move in.
        noise_std: of Gaussian noise, in units of the pixels.

    Returns:
        (B, H, W, c) float32.
    """
    if max_shift:
        images = tf.map_fn(lambda pair: shift_image(*pair, max_shift), (images, seeds), fn_output_signature=tf.float32)
    if noise_std:
        noise = tf.vectorized_map(lambda seed: tf.random.stateless_normal(images.shape[1:], seed), seeds)
        images = images + noise_std * noise
    return images


def shift_image(image, seed, max_shift):
    """Moves one (H, W, c) picture by up to `max_shift` whole pixels in each direction; zeros move in."""
    height, width = image.shape[0], image.shape[1]
    padded = tf.pad(image, [[max_shift, max_shift], [max_shift, max_shift], [0, 0]])
    offset = tf.random.stateless_uniform((2,), seed, 0, 2 * max_shift + 1, tf.int32)
    return tf.slice(padded, [offset[0], offset[1], 0], [height, width, image.shape[2]])


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
