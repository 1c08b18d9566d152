"""What the header of a picture file says, read by TensorFlow's operators before anything is decoded.

Decoders trust what they are given more than a server may: of what is refused here some would take gigabytes, and an
animated WebP file makes TensorFlow 2.21 write behind the end of its memory. What is left decodes to the numbers of
`read_image`.

Each function of a format takes the bytes of a file, a scalar string, and returns what is to be decoded, the size
(H, W), and the orientation of the camera, from 1 to 8. They raise where the file is refused.
"""

import numpy as np
import tensorflow as tf

MOST_SEGMENTS = 256  # of a JPEG in front of its EXIF block, or of a GIF in front of its picture
MOST_HEADER = 2**20  # bytes in which the EXIF block of a JPEG is looked for
MOST_PICTURE = 2**22  # bytes in which the first picture of a GIF must end
MOST_EXIF = 2**16  # bytes of an EXIF block
MOST_ENTRIES = 256  # of its first table
WEIGHTS = np.array([1, 2**8, 2**16, 2**24], np.int32)  # of the bytes of a number, the lowest first
GREY_PALETTE = np.stack([np.arange(256)] * 3 + [np.zeros(256)], axis=1).astype(np.uint8).tobytes()


def jpeg_header(encoded):
    """Of a JPEG file."""
    return encoded, tf.image.extract_jpeg_shape(encoded)[:2], _orientation(_jpeg_exif(encoded))


def png_header(encoded):
    """Of a PNG file, whose first chunk says its size."""
    size = tf.reverse(tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False), [0])
    return encoded, size, _orientation(_behind(encoded, b"eXIf", 4))


def png_has_alpha(encoded):
    """Whether a PNG file says of its pixels how transparent they are: by its colour type, or by a chunk of its own."""
    colour_type = _raw(tf.strings.substr(encoded, 25, 1))[0]
    return (colour_type == 4) | (colour_type == 6) | (_first(encoded, b"tRNS") < _first(encoded, b"IDAT"))


def gif_header(encoded):
    """Of a GIF file: it is cut off behind its first picture, and what is transparent becomes black.

    A decoder would unpack all of its pictures; this one says no more than one, which must fill the canvas.
    """
    raw = _raw(tf.strings.substr(encoded, 0, MOST_PICTURE))
    last = tf.size(raw) - 1
    # Data come in blocks, a length before each, up to one of no length; from any place on, where they end.
    ends = tf.minimum(tf.range(tf.size(raw)) + tf.where(raw == 0, 0, 1 + raw), last)
    _, ends = tf.while_loop(lambda step, _: step <= last, lambda step, e: (2 * step, tf.gather(e, e)), (1, ends))

    def table(at):
        """How many bytes the colours take that the flags at a place speak of."""
        flags = _number(raw, at, 1)
        return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)

    def is_extension(at, _, count):
        return (_number(raw, at, 1) == 0x21) & (count < MOST_SEGMENTS)

    def skip(at, transparent, count):
        kind, _, flags, _, _, index = tf.unstack(_bytes(raw, at + 1, 6))
        transparent = tf.where((kind == 0xF9) & (flags % 2 == 1), index, transparent)
        return ends[tf.minimum(at + 2, last)] + 1, transparent, count + 1

    at, transparent, _ = tf.while_loop(is_extension, skip, (13 + table(10), -1, 0))
    canvas = _numbers(raw, 6, 2)
    is_picture = _number(raw, at, 1) == 0x2C
    fills = tf.reduce_all(_numbers(raw, at + 1, 4) == tf.concat([[0, 0], canvas], 0))
    local = table(at + 9)
    end = ends[tf.minimum(at + 10 + local + 1, last)]
    hidden = tf.where(local > 0, at + 10, 13) + 3 * transparent  # where the colour stands that is none
    with _required(is_picture & fills, "a GIF file whose first picture does not fill the canvas"):
        first = tf.strings.substr(encoded, 0, end + 1)
    has_hidden = (transparent >= 0) & (hidden + 3 <= end)
    place = tf.where(has_hidden, hidden, 0)
    before, behind = tf.strings.substr(first, 0, place), tf.strings.substr(first, tf.minimum(place + 3, end + 1), -1)
    first = tf.where(has_hidden, tf.strings.join([before, b"\0\0\0", behind]), first)
    return tf.strings.join([first, b"\x3b"]), tf.reverse(canvas, [0]), tf.constant(1)


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
    lossy = _numbers(raw, 26, 2) % 2**14
    lossless = tf.stack([bits % 2**14, bits // 2**14 % 2**14]) + 1
    extended = tf.stack([_number(raw, 24, 3), _number(raw, 27, 3)]) + 1
    size = tf.where(is_extended, extended, tf.where(is_lossless, lossless, lossy))
    is_animated = is_extended & (_number(raw, 20, 1) // 2 % 2 == 1)
    is_known = is_extended | is_lossless | tf.equal(kind, b"VP8 ")
    with _required(is_known & ~is_animated, "an animated WebP file"):
        size = tf.reverse(size, [0])
    exif = _behind(encoded, b"EXIF", 8)
    begins = tf.equal(tf.strings.substr(exif, 0, tf.minimum(6, tf.strings.length(exif))), b"Exif\0\0")
    return encoded, size, _orientation(tf.strings.substr(exif, tf.where(begins, 6, 0), -1))


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
    """The bytes of a string as (n + 16,) int32; the last ones are zeros of ours."""
    return tf.pad(tf.cast(tf.io.decode_raw(encoded, tf.uint8), tf.int32), [[0, 16]])


def _bytes(raw, at, count):
    """So many bytes, at most 16, from a place on; zeros where there are none."""
    return tf.slice(raw, [tf.where(at < 0, tf.size(raw) - 16, tf.minimum(at, tf.size(raw) - 16))], [count])


def _number(raw, at, size):
    """The integer of so many bytes at a place, the lowest first, int32."""
    return tf.reduce_sum(_bytes(raw, at, size) * WEIGHTS[:size])


def _numbers(raw, at, count):
    """So many integers of two bytes, one behind the other, (count,)."""
    return tf.reduce_sum(tf.reshape(_bytes(raw, at, 2 * count), (count, 2)) * WEIGHTS[:2], axis=1)


def _jpeg_exif(encoded):
    """The EXIF block of a JPEG file, a string; empty where it has none. Segments follow each other up to the pixels."""
    raw = _raw(tf.strings.substr(encoded, 0, MOST_HEADER))

    def look(at):
        """Of a segment: its marker, its length, whether it is the EXIF block, and whether there is another behind."""
        begin = _bytes(raw, at, 10)
        is_exif = tf.reduce_all(tf.concat([begin[:2], begin[4:]], 0) == list(b"\xff\xe1Exif\0\0"))
        has_next = (begin[0] == 0xFF) & tf.reduce_all(begin[1] != [0, 0xD9, 0xDA])
        length = tf.where(begin[1] == 0xFF, 1, 2 + tf.maximum(256 * begin[2] + begin[3], 2))  # or it is filled up
        return length, is_exif, has_next

    def is_other(at, count):
        _, is_exif, has_next = look(at)
        return has_next & ~is_exif & (count < MOST_SEGMENTS)

    at, _ = tf.while_loop(is_other, lambda at, count: (at + look(at)[0], count + 1), (2, 0))
    length, is_exif, _ = look(at)
    start = tf.minimum(at + 10, tf.strings.length(encoded))
    return tf.strings.substr(encoded, start, tf.where(is_exif, tf.maximum(length - 10, 0), 0))


def _first(encoded, name):
    """The first place of four bytes, int32; the length of the string where they do not occur."""
    raw = tf.pad(tf.io.decode_raw(encoded, tf.uint8), [[0, 4]])
    count = tf.size(raw) - 4
    found = tf.reduce_all([raw[i : count + i] == byte for i, byte in enumerate(name)], axis=0)
    return tf.argmax(tf.cast(tf.concat([found, [True]], 0), tf.uint8), output_type=tf.int32)


def _behind(encoded, name, distance):
    """What stands behind the first place of four bytes, a string; empty where they do not occur."""
    start = tf.minimum(_first(encoded, name) + distance, tf.strings.length(encoded))
    return tf.strings.substr(encoded, start, MOST_EXIF)


def _orientation(exif):
    """What an EXIF block, a string, says of the orientation, from 1 to 8; 1 where it says nothing, or nonsense."""
    raw = _raw(tf.strings.substr(exif, 0, MOST_EXIF))
    begin = _bytes(raw, 0, 4)
    is_big, is_little = (tf.reduce_all(begin == list(magic)) for magic in (b"MM\0*", b"II*\0"))
    ordered = tf.where(is_big, WEIGHTS[:2][::-1], WEIGHTS[:2])

    def numbers(start, stop, step):
        """Numbers of two bytes: one every `step` bytes."""
        places = tf.range(start, stop, step)[:, None] + [0, 1]
        return tf.reduce_sum(tf.gather(raw, tf.clip_by_value(places, 0, tf.size(raw) - 1)) * ordered, axis=1)

    offset = numbers(4, 8, 2)
    start = tf.where(is_big, offset[1], offset[0])  # of the table; the upper half is nought in 64 KiB
    count = tf.minimum(numbers(start, start + 2, 2)[0], MOST_ENTRIES)
    entries = start + 2 + 12 * tf.range(count)
    tags = numbers(start + 2, start + 2 + 12 * count, 12)
    places = tf.boolean_mask(entries, tags == 0x0112)
    place = tf.concat([places, [tf.size(raw) - 16]], 0)[0]
    kind, _, _, value, upper = tf.unstack(numbers(place + 2, place + 12, 2), 5)
    value = tf.where(is_big & (kind == 4), upper, value)
    is_said = (is_big | is_little) & (value >= 1) & (value <= 8)
    return tf.where(is_said, value, 1)
