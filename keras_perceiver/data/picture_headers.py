"""What the header of a picture file says, read by TensorFlow's operators before anything is decoded.

Decoders trust what they are given more than a server may: of what is refused here some would take gigabytes, and an
animated WebP file makes TensorFlow 2.21 write behind the end of its memory. What is left decodes to the numbers of
`read_image`.

Each function of a format takes the bytes of a file, a scalar string, and returns what is to be decoded, the size (H, W),
and the orientation of the camera, from 1 to 8. They raise where the file is refused.
"""

import functools

import numpy as np
import tensorflow as tf

MOST_SEGMENTS = 256  # of a JPEG in front of its EXIF block, or of a GIF in front of its picture
MOST_HEADER = 2**20  # bytes in which the EXIF block of a JPEG is looked for
MAX_GIF_BYTES = 2**24  # 16 MiB
GREY_PALETTE = np.stack([np.arange(256)] * 3 + [np.zeros(256)], axis=1).astype(np.uint8).tobytes()


def jpeg_header(encoded):
    """Of a JPEG file."""
    return encoded, tf.image.extract_jpeg_shape(encoded)[:2], _orientation(_jpeg_exif(encoded))


def png_header(encoded):
    """Of a PNG file, whose first chunk says its size."""
    size = tf.reverse(tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False), [0])
    return encoded, size, _orientation(_behind(encoded, b"eXIf", 4))


def gif_header(encoded):
    """Of a GIF file: it is cut off behind its first picture, and what is transparent becomes black.

    A decoder would unpack all of its pictures; this one says no more than one, which must fill the canvas.
    """
    with _required(tf.strings.length(encoded) <= MAX_GIF_BYTES, "a GIF file of more than 16 MiB"):
        raw = _raw(encoded)
    place = tf.range(tf.size(raw))
    last = tf.size(raw) - 1
    # Data come in blocks, a length before each, up to one of no length; from any place on, where they end.
    ends = tf.where(raw == 0, place, tf.minimum(place + 1 + raw, last))
    steps = tf.cast(tf.math.ceil(tf.math.log(tf.cast(tf.size(raw), tf.float32)) / np.log(2.0)), tf.int32)
    _, ends = tf.while_loop(lambda i, _: i < steps, lambda i, e: (i + 1, tf.gather(e, e)), (0, ends))

    def table(at):
        """How many bytes the colours take that the flags at a place speak of."""
        flags = _number(raw, at, 1)
        return tf.where(flags >= 128, 3 * 2 ** (flags % 8 + 1), 0)

    def is_extension(at, _, count):
        return (_number(raw, at, 1) == 0x21) & (count < MOST_SEGMENTS)

    def skip(at, transparent, count):
        controls = (_number(raw, at + 1, 1) == 0xF9) & (_number(raw, at + 3, 1) % 2 == 1)
        transparent = tf.where(controls, _number(raw, at + 6, 1), transparent)
        return tf.gather(ends, tf.minimum(at + 2, last)) + 1, transparent, count + 1

    at, transparent, _ = tf.while_loop(is_extension, skip, (13 + table(10), -1, 0))
    canvas, box = (_numbers(raw, start, 2, count) for start, count in ((6, 2), (at + 1, 4)))
    fills = (_number(raw, at, 1) == 0x2C) & tf.reduce_all(box == tf.concat([[0, 0], canvas], 0))
    local = table(at + 9)
    end = tf.gather(ends, tf.minimum(at + 10 + local + 1, last))
    with _required(fills, "a GIF file whose first picture does not fill the canvas"):
        colours = tf.where(local > 0, at + 10, 13)
    hidden = (place >= colours + 3 * transparent) & (place < colours + 3 * transparent + 3) & (transparent >= 0)
    kept = tf.where(hidden, 0, raw)[: end + 1]
    return _text(tf.concat([kept, [0x3B]], 0)), tf.reverse(canvas, [0]), tf.constant(1)


def bmp_header(encoded):
    """Of a BMP file: of 24 or 32 bits, or of 8 that are levels of grey."""
    raw = _raw(tf.strings.substr(encoded, 0, 64))
    header, width, height = (_number(raw, at, 4) for at in (14, 18, 22))
    bits, compression = _number(raw, 28, 2), _number(raw, 30, 4)
    is_grey = tf.cond(
        bits == 8,
        lambda: tf.equal(tf.strings.substr(encoded, 14 + header, 1024), GREY_PALETTE),
        lambda: (bits == 24) | (bits == 32),
    )
    with _required((header >= 40) & (compression == 0) & is_grey, "a BMP file of a kind that is not decoded"):
        size = tf.stack([tf.abs(height), width])
    return encoded, size, tf.constant(1)


def webp_header(encoded):
    """Of a WebP file that is not animated."""
    raw = _raw(tf.strings.substr(encoded, 0, 64))
    kind = tf.strings.substr(encoded, 12, 4)
    is_extended, is_lossless = tf.equal(kind, b"VP8X"), tf.equal(kind, b"VP8L")
    bits = _number(raw, 21, 4)
    lossy = _numbers(raw, 26, 2, 2) % 2**14
    lossless = tf.stack([bits % 2**14, bits // 2**14 % 2**14]) + 1
    extended = tf.stack([_number(raw, 24, 3), _number(raw, 27, 3)]) + 1
    size = tf.where(is_extended, extended, tf.where(is_lossless, lossless, lossy))
    is_animated = is_extended & (_number(raw, 20, 1) // 2 % 2 == 1)
    is_known = is_extended | is_lossless | tf.equal(kind, b"VP8 ")
    with _required(is_known & ~is_animated, "an animated WebP file"):
        size = tf.reverse(size, [0])
    exif = _behind(encoded, b"EXIF", 8)
    begins = tf.equal(tf.strings.substr(exif, 0, tf.minimum(6, tf.strings.length(exif))), b"Exif\0\0")
    return encoded, size, _orientation(tf.cond(begins, lambda: tf.strings.substr(exif, 6, -1), lambda: exif))


def upright(image, orientation):
    """A picture (h, w, c) turned as the camera was held: `orientation` is that of EXIF."""

    def is_one_of(*values):
        return tf.reduce_any(orientation == tf.constant(values))

    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    image = tf.cond(is_one_of(2, 3, 6, 7), lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(is_one_of(3, 4, 7, 8), lambda: tf.reverse(image, [0]), lambda: image)


def _required(condition, what):
    """A context in which an operator runs only if that holds."""
    return tf.control_dependencies([tf.debugging.Assert(condition, [what])])


def _raw(encoded):
    """The bytes of a string as (n + 1,) int32; the last one is a zero of ours."""
    return tf.pad(tf.cast(tf.io.decode_raw(encoded, tf.uint8), tf.int32), [[0, 1]])


def _text(raw):
    """Bytes (n,) int32 as a string."""
    return tf.strings.reduce_join(tf.gather(tf.constant([bytes([i]) for i in range(256)]), raw))


def _number(raw, at, size, big_endian=False):
    """The integer of so many bytes at a place, int32; bytes behind the end are zeros."""
    places = at + tf.range(size)
    inside = (places >= 0) & (places < tf.size(raw))
    values = tf.where(inside, tf.gather(raw, tf.clip_by_value(places, 0, tf.size(raw) - 1)), 0)
    weights = tf.bitwise.left_shift(tf.ones(size, tf.int32), 8 * tf.range(size))
    return tf.reduce_sum(values * tf.where(big_endian, weights[::-1], weights))


def _numbers(raw, at, size, count):
    """So many numbers, one behind the other, (count,)."""
    return tf.stack([_number(raw, at + size * i, size) for i in range(count)])


def _jpeg_exif(encoded):
    """The EXIF block of a JPEG file, a string; empty where it has none. Segments follow each other up to the pixels."""
    raw = _raw(tf.strings.substr(encoded, 0, MOST_HEADER))
    number = functools.partial(_number, raw, big_endian=True)

    def is_exif(at):
        return (number(at, 2) == 0xFFE1) & (number(at + 4, 4) == 0x45786966) & (number(at + 8, 2) == 0)

    def is_other(at, count):
        marker = number(at, 2)
        goes_on = (marker >= 0xFF01) & (marker != 0xFFDA) & (marker != 0xFFD9) & (count < MOST_SEGMENTS)
        return goes_on & ~is_exif(at)

    def skip(at, count):
        is_fill = number(at + 1, 1) == 0xFF
        return at + tf.where(is_fill, 1, 2 + tf.maximum(number(at + 2, 2), 2)), count + 1

    at, _ = tf.while_loop(is_other, skip, (2, 0))
    length = tf.where(is_exif(at), number(at + 2, 2) - 8, 0)
    start = tf.minimum(at + 10, tf.strings.length(encoded))
    return tf.strings.substr(encoded, start, tf.maximum(length, 0))


def _behind(encoded, name, distance):
    """What stands behind the first place of four bytes, a string; empty where they do not occur."""
    raw = tf.pad(tf.io.decode_raw(encoded, tf.uint8), [[0, 4]])
    count = tf.size(raw) - 4
    found = tf.reduce_all([raw[i : count + i] == byte for i, byte in enumerate(name)], axis=0)
    first = tf.argmax(tf.cast(found, tf.uint8), output_type=tf.int32)
    start = tf.where(tf.reduce_any(found), first + distance, count)
    return tf.strings.substr(encoded, tf.minimum(start, count), 2**16)


def _orientation(exif):
    """What an EXIF block, a string, says of the orientation, int32 from 1 to 8; 1 where it says nothing, or nonsense."""
    raw = _raw(exif)
    is_big = tf.equal(_number(raw, 0, 4), 0x2A004D4D)  # "MM", and 42 in two bytes
    is_little = tf.equal(_number(raw, 0, 4), 0x002A4949)
    number = functools.partial(_number, raw, big_endian=is_big)
    start = number(4, 4)
    count = tf.minimum(number(start, 2), 512)
    entries = tf.map_fn(lambda i: number(start + 2 + 12 * i, 2), tf.range(count))
    is_orientation = entries == 0x0112
    entry = start + 2 + 12 * tf.argmax(tf.cast(tf.concat([is_orientation, [True]], 0), tf.int32), output_type=tf.int32)
    value = tf.where(number(entry + 2, 2) == 4, number(entry + 8, 4), number(entry + 8, 2))
    is_said = (is_big | is_little) & tf.reduce_any(is_orientation) & (value >= 1) & (value <= 8)
    return tf.where(is_said, value, 1)
