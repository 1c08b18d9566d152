"""Pictures for `fuzz.py`: small valid files of every format, and what may become of a mutant."""

import io

import numpy as np
from fuzz_agreement import scanned_and_read
from PIL import Image

from keras_perceiver.data import read_image
from keras_perceiver.data.images import scan_image

SHAPE = (7, 5, 3)


def valid_files():
    """`{name: bytes}` of small pictures of every format and of the kinds within it that are decoded differently."""
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (29, 31, 3), np.uint8))
    smooth = Image.fromarray(np.add.outer(np.arange(61), np.arange(67)).astype(np.uint8))
    transparent = rough.copy()
    transparent.putalpha(smooth.resize(rough.size))
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = Image.fromarray(np.asarray(smooth).astype(np.uint16) * 257)
    kinds = {
        "jpeg": (rough, {"format": "JPEG", "exif": exif}),
        "progressive jpeg": (smooth, {"format": "JPEG", "progressive": True}),
        "cmyk jpeg": (rough.convert("CMYK"), {"format": "JPEG"}),
        "png": (transparent, {"format": "PNG", "exif": exif}),
        "palette png": (rough.quantize(17), {"format": "PNG", "transparency": 3}),
        "16 bit png": (wide, {"format": "PNG"}),
        "gif": (rough, {"format": "GIF", "save_all": True, "append_images": [rough.rotate(90)]}),
        "bmp": (rough, {"format": "BMP"}),
        "palette bmp": (smooth, {"format": "BMP"}),
        "webp": (transparent, {"format": "WEBP"}),
        "lossless webp": (rough, {"format": "WEBP", "lossless": True}),
    }
    files = {}
    for name, (image, options) in kinds.items():
        stream = io.BytesIO()
        image.save(stream, **options)
        files[name] = stream.getvalue()
    return files


def outcome(content):
    """ "pixels" or "refused"; whatever else is raised goes through."""
    found = scanned_and_read(scan_image, lambda file: read_image(file, SHAPE), content)
    if found is None:
        return "refused"
    facts, pixels = found
    assert facts["low"] <= facts["high"]
    assert pixels.shape == SHAPE
    assert pixels.dtype == np.float32
    assert pixels.min() >= 0
    assert pixels.max() <= 255
    return "pixels"
