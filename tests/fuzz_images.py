"""Feeds broken picture files to the reader: `python tests/fuzz_images.py --mutants 2000`.

Valid files of every format are mutated by bit flips, truncation and insertion, in the same way every time. Each mutant
must end in pixels or in an `InputError`; any other exception ends the programme. It prints what became of them, and
the most processor time and memory that one took.
"""

import argparse
import io
import resource
import time

import numpy as np
from PIL import Image

from keras_perceiver._checks import InputError
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


def mutants(content, count, seed):
    """Yields `count` mutants of a file: flipped bits, mostly near its beginning, a cut, or bytes put in."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        data = bytearray(content)
        kind = rng.integers(4)
        if kind < 2:
            reach = min(len(data), 200) if kind else len(data)
            for place in rng.integers(0, reach, rng.integers(1, 9)):
                data[place] ^= 1 << rng.integers(8)
        elif kind == 2:
            del data[rng.integers(len(data)) :]
        else:
            place = rng.integers(len(data))
            data[place:place] = rng.bytes(rng.integers(1, 65))
        yield bytes(data)


def outcome(content):
    """ "pixels" or "refused"; whatever else is raised goes through."""
    try:
        pixels = read_image(content, SHAPE)
    except InputError:
        pixels = None
    else:
        assert pixels.shape == SHAPE
        assert pixels.dtype == np.float32
        assert pixels.min() >= 0
        assert pixels.max() <= 255
    try:
        facts = scan_image(content)
        assert facts["low"] <= facts["high"]
    except InputError:
        assert pixels is None, "what can be read must be read in the scan"
        return "refused"
    assert pixels is not None, "what the scan could read must be readable"
    return "pixels"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=100, help="of each file")
    arguments = parser.parse_args(arguments)
    print(f"{'':18} {'pixels':>7} {'refused':>8} {'slowest s':>10} {'peak MB':>8}")
    for number, (name, content) in enumerate(valid_files().items()):
        counts, slowest = {"pixels": 0, "refused": 0}, 0.0
        for mutant in mutants(content, arguments.mutants, number):
            began = time.process_time()
            counts[outcome(mutant)] += 1
            slowest = max(slowest, time.process_time() - began)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{name:18} {counts['pixels']:7,} {counts['refused']:8,} {slowest:10.2f} {peak:8,.0f}", flush=True)


if __name__ == "__main__":
    main()
