"""Images: reading picture files, and what every model of images needs in front of it.

One reader, Pillow, serves training, `inspect` and `predict`, so that a picture is the same numbers in each.
"""

import hashlib
import io
import math
import re
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageOps, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from PIL.Image import Resampling

from keras_perceiver._checks import InputError, require, require_positive
from keras_perceiver.data.drawing import highlighted
from keras_perceiver.data.files import open_regular

EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")

# A picture is decoded whole before it is made small: up to 16 bytes a pixel, half a GB at this limit.
MAX_PIXELS = 2**25  # 33.5 million: 5,792 x 5,792
# libjpeg makes a picture up to 8 times smaller each way while it decodes, and holds but one row of blocks; unless the
# file is progressive, or its colours come one after the other.
MAX_JPEG_PIXELS = 2**29  # 536.9 million: 23,170 x 23,170
NATIVE_SIZE = 96  # pictures that all have one size, up to this many pixels each way, enter the model as they are
DEFAULT_SIZE = 64  # others are resized to this many pixels each way

MAX_FILE_BYTES = 2**29  # 512 MiB

# By content and not by name. No other format is tried: rarer readers have no business with what may be hostile.
READERS = {
    rb"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,  # of several pictures in one file, the first
    rb"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    rb"GIF8[79]a": GifImagePlugin.GifImageFile,  # the first frame
    rb"BM": BmpImagePlugin.BmpImageFile,
    rb"RIFF.{4}WEBP": WebPImagePlugin.WebPImageFile,  # the first frame
}
# A broken EXIF block, say: the pixels are read all the same.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*")


class Crop(NamedTuple):
    """Which part of a picture is read."""

    box: Callable  # (H, W) of the whole, in pixels -> (top, left, height, width) of the part
    least_side: float  # about the least share of its sides that is asked for: of less, a large JPEG is made small first


def normalize_pixels(images):
    """Pixels in [0, 255] -> [-1, 1], float32."""
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def permute_pixels(images, seed):
    """Moves all pixels of each picture (.., H, W, c) by one permutation, a function of `seed` and the size alone.

    The permutation of the paper's second table, the same for every picture. There it comes after positions are
    attached, which changes nothing at all for a Perceiver: attention does not know an order. Here the pixels move and
    the positions stay, as a convolution sees it, so that neighbours are apart and Fourier positions say nothing of
    it: a model has to learn the picture's shape from the data.
    """
    *_, height, width, channels = images.shape
    order = np.random.default_rng(seed).permutation(height * width)
    shape = tf.shape(images)
    flat = tf.reshape(images, tf.concat([shape[:-3], [height * width, channels]], 0))
    return tf.ensure_shape(tf.reshape(tf.gather(flat, order, axis=-2), shape), images.shape)


def preprocess_images(*, permute_seed=None):
    """What stands between raw pixels and the model, resizing aside: a function of pictures.

    The tf.data pipeline and the exported SavedModel both call it, so that training and serving cannot disagree.

    Args:
        permute_seed: of `permute_pixels`; None leaves pixels in their places.

    Returns:
        Function `(.., H, W, c) in [0, 255] -> (.., H, W, c) float32 in [-1, 1]`.
    """

    def preprocess(images):
        return normalize_pixels(images if permute_seed is None else permute_pixels(images, permute_seed))

    return preprocess


def read_image(file, shape, *, invert=False, crop=None):
    """Reads a picture file and turns it to what a model expects.

    The orientation of the camera is applied, what is transparent becomes background (black, or white with
    `invert`), colours become grey or grey becomes colours, 16 bits become 8, and the picture is resized by area
    averaging (a part of it by straight lines between pixels, for it may become larger). Of several frames the first is
    read.

    Args:
        file: path of a JPEG, PNG, GIF, BMP or WebP file, or its bytes.
        shape: (H, W, c) with c = 1 (grey) or 3 (colour).
        invert: turn dark ink on white into light ink on black.
        crop: the `Crop` that is read; None for the whole.

    Returns:
        (H, W, c) float32 in [0, 255], whole numbers.

    Raises:
        InputError: where the file is missing, is no picture that can be decoded, or has more than `MAX_PIXELS`
            pixels (`MAX_JPEG_PIXELS` for a JPEG that is neither progressive nor has its colours one after the other) or
            `MAX_FILE_BYTES` bytes.
    """
    height, width, channels = shape
    require(channels in (1, 3), "A model of pictures must have 1 or 3 channels", shape=tuple(shape))
    share = 1.0 if crop is None else crop.least_side
    with decoded(file, (math.ceil(width / share), math.ceil(height / share))) as (image, size):
        part = image if crop is None else _cut(image, crop.box(size), size)
        resampling = Resampling.BOX if crop is None else Resampling.BILINEAR
        pixels = fit(part, shape, "white" if invert else "black", resampling).astype(np.float32)
    return 255.0 - pixels if invert else pixels


def _cut(image, box, size):
    """The part (top, left, height, width) of a picture of `size` (H, W), of an image of it that may be smaller."""
    top, left, height, width = (float(number) for number in box)
    down, across = image.height / size[0], image.width / size[1]
    edges = left * across, top * down, (left + width) * across, (top + height) * down
    left, top, right, bottom = (round(edge) for edge in edges)
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def fit(image, shape, background="black", resampling=Resampling.BOX):
    """A Pillow image -> (H, W, c) uint8: background behind what is transparent, channels, size."""
    height, width, channels = shape
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), resampling)
    return np.asarray(image).reshape(height, width, channels)


def resize_pixels(pixels, shape):
    """(H', W', 1 or 3) uint8 -> `shape` (H, W, c), as `read_image` would have done it."""
    if pixels.shape == tuple(shape):
        return pixels
    return fit(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels), shape)


def scan_image(path):
    """Decodes a picture file once, fully, and says what is in it: facts that JSON can hold.

    Returns:
        `{"size": [H, W], "grey": bool, "low": int, "high": int, "hash": str}`: the size as it is to be seen, whether
        all its pixels are grey, the range, and a hash of the decoded pixels.

    Raises:
        InputError: as `read_image`.
    """
    with decoded(path, (DEFAULT_SIZE, DEFAULT_SIZE)) as (image, size):
        pixels = fit(image, (image.height, image.width, 3))
    return {"size": list(size), **facts_of(pixels, size)}


def facts_of(pixels, size=None):
    """`scan_image`'s facts of (H, W, 1 or 3) uint8 pixels; `size` where they stand for a larger picture."""
    grey = pixels.shape[-1] == 1 or bool((pixels[..., :1] == pixels[..., 1:]).all())
    digest = hashlib.blake2b(repr((size or pixels.shape[:2], grey)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels[..., :1] if grey else pixels))
    return {
        "size": list(size or pixels.shape[:2]),
        "grey": grey,
        "low": int(pixels.min()),
        "high": int(pixels.max()),
        "hash": digest.hexdigest(),
    }


def choose_image_shape(facts, image_size=None):
    """The (H, W, c) that pictures enter a model with.

    Args:
        facts: `size` and `grey` of every picture, see `scan_image`; a size of None is not known.
        image_size: H = W, or (H, W); None for the pictures' own size where all have the same one of at most
            `NATIVE_SIZE` pixels each way, and `DEFAULT_SIZE` otherwise.

    Returns:
        (H, W, c): c is 1 where all pictures are grey, otherwise 3.
    """
    if image_size is None:
        sizes = {tuple(fact["size"]) for fact in facts}
        native = len(sizes) == 1 and all(n is not None and n <= NATIVE_SIZE for size in sizes for n in size)
        image_size = next(iter(sizes)) if native else DEFAULT_SIZE
    height, width = image_size if isinstance(image_size, (list, tuple)) else (image_size, image_size)
    require_positive(image_size=height)
    require_positive(image_size=width)
    require(
        height * width <= MAX_PIXELS, f"`image_size` must give at most {MAX_PIXELS:,} pixels", image_size=image_size
    )
    return (height, width, 1 if all(fact["grey"] for fact in facts) else 3)


def draw_image(axes, image, weights=None):
    """Draws a preprocessed picture, (H, W, c) in [-1, 1]; what augmentation took beyond that is cut off.

    With `weights` of its bytes, (h, w), it is grey, and they are laid over it.
    """
    pixels = np.clip(np.asarray(image) / 2 + 0.5, 0, 1)
    is_grey = pixels.shape[-1] == 1 or weights is not None
    axes.imshow(pixels.mean(axis=-1) if is_grey else pixels, cmap="gray", vmin=0, vmax=1)
    if weights is not None:
        axes.imshow(highlighted(weights, pixels.shape[:2]))


@contextmanager
def decoded(file, target):
    """Opens a picture and decodes it: `(Pillow image, (H, W) as stored in the file, turned upright)`.

    A JPEG that is far larger than `target` (W, H) is made smaller while it is decoded, and stays at least twice as
    large. Whatever goes wrong inside a decoder, which is fed by strangers, is an `InputError` that names the file.
    """
    name = "the picture" if isinstance(file, bytes) else f"`{file}`"
    try:
        with _stream(file) as stream, _reader(stream) as image:
            _check_size(image)
            width, height = image.size
            image.draft(None, (2 * max(target),) * 2)
            image.load()
            upright = ImageOps.exif_transpose(_eight_bits(image))
            turned = (upright.width > upright.height) != (image.width > image.height)
            yield upright, (width, height) if turned else (height, width)
    except InputError:
        raise
    except Exception as error:  # decoders raise nearly everything: struct.error, IndexError, MemoryError, ..
        reason = str(error) or type(error).__name__
        raise InputError(f"{name} must be a readable picture (JPEG, PNG, GIF, BMP or WebP). {reason}") from error


def is_animated(path):
    """Whether a file is a GIF of several frames; False too where it cannot be read, which its reader says."""
    try:
        with open_regular(path, MAX_FILE_BYTES) as stream, GifImagePlugin.GifImageFile(stream) as image:
            return image.is_animated
    except Exception:  # decoders raise nearly everything
        return False


def _stream(file):
    return io.BytesIO(file) if isinstance(file, bytes) else open_regular(file, MAX_FILE_BYTES)


def _reader(stream):
    """The picture in a stream by its first bytes, not decoded yet."""
    start = stream.read(16)
    stream.seek(0)
    for magic, reader in READERS.items():
        if re.match(magic, start, re.DOTALL):
            return reader(stream)
    raise ValueError("It is empty." if not start else "It begins as none of these formats does.")


def _check_size(image):
    """Refuses pictures that would take too much memory, before anything is decoded."""
    in_rows = image.format == "JPEG" and not image.info.get("progressive") and _is_interleaved(image)
    limit = MAX_JPEG_PIXELS if in_rows else MAX_PIXELS
    if image.width * image.height > limit:
        kind = "a JPEG that is not progressive" if in_rows else "such a file"
        raise ValueError(f"It has {image.width:,} x {image.height:,} pixels; {kind} may have at most {limit:,}.")


def _is_interleaved(image):
    """Whether all components of a JPEG come in its first scan, whose header is the last that Pillow has read."""
    header = b"\xff\xda" + (6 + 2 * image.layers).to_bytes(2, "big") + bytes([image.layers])
    end = image.fp.tell()
    image.fp.seek(end - 8 - 2 * image.layers)
    return image.fp.read(end - image.fp.tell()).startswith(header)


def _eight_bits(image):
    """A grey picture of 16 bits as one of 8; Pillow's own conversion would clip it."""
    if not image.mode.startswith("I"):
        return image
    pixels = (np.asarray(image).clip(0, 65535).astype(np.uint32) + 128) // 257  # rounded: 65535 = 255 * 257
    eight = Image.fromarray(pixels.astype(np.uint8))
    eight.info = {"exif": image.info["exif"]} if "exif" in image.info else {}
    return eight
