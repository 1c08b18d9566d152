"""Files decoded by TensorFlow's own operators: what a served model does with the bytes of a picture or a sound.

A graph can hold no Pillow and no FFmpeg, so fewer formats are known here than to `read_image` and `read_audio`. What is
known gives their numbers: channels, background, size and rounding are theirs.
"""

import functools

import tensorflow as tf

from keras_perceiver.data.audio import clip_of, count_clips
from keras_perceiver.data.audio_files import MAX_RATE, MIN_RATE
from keras_perceiver.data.images import MAX_PIXELS
from keras_perceiver.data.picture_headers import (
    bmp_header,
    gif_header,
    jpeg_header,
    png_has_alpha,
    png_header,
    upright,
    webp_header,
)
from keras_perceiver.data.resampling import resample, samples_for

MAX_WAV_BYTES = 2**26  # 64 MiB
AT_ONCE = 2  # files that are decoded: a picture of `MAX_PIXELS` takes up to 0.6 GiB meanwhile


def decode_examples(decode, shape, encoded):
    """Encoded files (B,) string -> their clips, how many each has, and which could be read.

    A file that cannot be read costs the others nothing: its example is zeros.

    Args:
        decode: function of a scalar string that returns `({input: (K, ..)}, (K,) bool)`, K clips and which of them
            exist; see `image_decoder` and `wav_decoder`. What it raises makes the file unreadable.
        shape: `{input: ((K, ..), dtype)}` of what it returns.
        encoded: (B,) string.

    Returns:
        `({input: (B, K, ..)}, (B, K) bool, (B,) bool)`.
    """
    count = tf.size(encoded, tf.int64)
    files = tf.data.Dataset.from_tensor_slices((tf.range(count), encoded))
    decoded = files.map(lambda i, file: (i, *decode(file)), num_parallel_calls=AT_ONCE, deterministic=True)
    decoded = decoded.ignore_errors()
    # One more, of no file: a data set of no element has no batch.
    clips = {name: tf.zeros(size, dtype) for name, (size, dtype) in shape.items()}
    any_shape = next(iter(shape.values()))[0]
    nothing = tf.data.Dataset.from_tensors((count, clips, tf.zeros(any_shape[:1], tf.bool)))
    index, clips, exists = decoded.concatenate(nothing).batch(count + 1).get_single_element()

    def scatter(values, size):
        """Rows in the places of their files; zeros where none was decoded."""
        return tf.scatter_nd(index[:, None], values, tf.concat([[count + 1], tf.constant(size, tf.int64)], 0))[:count]

    clips = {name: scatter(clips[name], size) for name, (size, _) in shape.items()}
    exists = scatter(tf.cast(exists, tf.int32), any_shape[:1]) > 0
    return clips, exists, tf.reduce_any(exists, axis=1)


def image_decoder(shape):
    """A function of the bytes of a picture file that returns `{"image": (1, H, W, c) float32 in [0, 255]}`.

    JPEG, PNG, GIF (the first picture), BMP and WebP files, as of `read_image`, but: 16 bits become 8 by leaving out the
    lower ones, and a JPEG that is far larger is averaged pixel by pixel, which may differ by a few levels. Refused are
    files of more than `MAX_PIXELS` pixels, before they are decoded; animated WebP files; BMP files that are compressed
    or have a palette of colours; GIF files of more than 4 MiB or with a first picture smaller than the canvas.
    """
    height, width, channels = shape

    def decode(encoded):
        image = _decoded_picture(encoded, channels)
        size = tf.shape(image)
        of_height, of_width = _averaging(size[0], height), _averaging(size[1], width)
        planes = []
        for number in range(channels):
            with tf.control_dependencies(planes[-1:]):  # one after the other: each is four times as large in float32
                plane = tf.cast(image[..., number], tf.float32)
            plane = tf.floor(tf.matmul(plane, of_width, transpose_b=True) + 0.5)
            planes.append(tf.floor(tf.matmul(of_height, plane) + 0.5))
        return {"image": tf.stack(planes, axis=-1)[None]}, tf.ones((1,), tf.bool)

    return decode, {"image": ((1, height, width, channels), tf.float32)}


def decode_part(encoded, shape, box):
    """A part of a picture, (H, W, c) float32, whole numbers in [0, 255]; as `read_image` to a level or two.

    Args:
        encoded: scalar string, a file as of `image_decoder`.
        shape: (H, W, c).
        box: function of (H, W) that returns (top, left, height, width), (4,) int32.
    """
    image = _decoded_picture(encoded, shape[-1])
    top, left, height, width = tf.unstack(box(tf.shape(image)[:2]))
    part = tf.image.resize(image[top : top + height, left : left + width], shape[:2], antialias=True)
    return tf.ensure_shape(tf.round(part), shape)


def _decoded_picture(encoded, channels):
    """(h, w, channels) uint8, upright."""
    begins = [_has(encoded, *places) for places in PICTURES]
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_any(begins), ["no picture"])]):
        kind = tf.argmax(tf.cast(begins, tf.int32), output_type=tf.int32)
    headers = [functools.partial(header, encoded) for header, _ in PICTURES.values()]
    cut, size, orientation = tf.switch_case(kind, headers)
    pixels = tf.reduce_prod(tf.cast(size, tf.int64))
    legal = (pixels > 0) & (pixels <= MAX_PIXELS) & tf.reduce_all(size > 0)
    with tf.control_dependencies([tf.debugging.Assert(legal, [size])]):
        image = tf.switch_case(kind, [functools.partial(_pixels, read, cut) for _, read in PICTURES.values()])
    image = upright(image, orientation)
    return _grey(image)[..., None] if channels == 1 else image


def _grey(image):
    """(h, w, 3) uint8 -> (h, w) uint8: sums of whole numbers below 2**24, of which float32 has every digit."""
    total = tf.fill(tf.shape(image)[:2], 2.0**15)
    for number, share in enumerate((19595.0, 38470.0, 7471.0)):
        with tf.control_dependencies([total]):  # one after the other, see `image_decoder`
            total += share * tf.cast(image[..., number], tf.float32)
    return tf.cast(tf.floor(total / 2**16), tf.uint8)


def _has(encoded, place, magic):
    """Whether a file has these bytes at a place."""
    end = place + len(magic)
    return tf.cond(
        tf.strings.length(encoded) >= end,
        lambda: tf.equal(tf.strings.substr(encoded, place, len(magic)), magic),
        lambda: False,
    )


def _pixels(read, encoded):
    """(h, w, 3) uint8."""
    return tf.ensure_shape(read(encoded), (None, None, 3))


def _jpeg(encoded):
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def _png(encoded):
    """TensorFlow 2.21 makes up a wrong fourth channel where pixels have fewer than 8 bits."""
    return tf.cond(
        png_has_alpha(encoded),
        lambda: _on_black(tf.io.decode_png(encoded, channels=4)),
        lambda: tf.io.decode_png(encoded, channels=3),
    )


def _gif(encoded):
    return tf.io.decode_gif(encoded)[0]


def _bmp(encoded):
    """What may stand in a fourth channel means nothing."""
    image = tf.image.decode_image(encoded, expand_animations=False)
    return tf.concat([image] * 3, axis=-1)[..., :3]


def _webp(encoded):
    image = tf.image.decode_image(encoded, expand_animations=False)
    opaque = tf.fill(tf.concat([tf.shape(image)[:2], [1]], 0), tf.constant(255, tf.uint8))
    return _on_black(tf.concat([image, opaque], axis=-1)[..., :4])


def _on_black(image):
    """(h, w, 4) uint8 -> (h, w, 3), black behind what is transparent."""
    image, eight = tf.cast(image, tf.uint16), tf.constant(8, tf.uint16)
    product = image[..., :3] * image[..., 3:] + tf.constant(128, tf.uint16)  # divided by 255 and rounded
    return tf.cast(tf.bitwise.right_shift(tf.bitwise.right_shift(product, eight) + product, eight), tf.uint8)


# {where a format is known by which bytes: (what reads the header, what decodes)}
PICTURES = {
    (0, b"\xff\xd8\xff"): (jpeg_header, _jpeg),
    (0, b"\x89PNG\r\n\x1a\n"): (png_header, _png),
    (0, b"GIF8"): (gif_header, _gif),
    (0, b"BM"): (bmp_header, _bmp),
    (8, b"WEBP"): (webp_header, _webp),
}


def _averaging(old, size):
    """(size, old): by its product an axis becomes `size` long, each new pixel the mean of the whole ones in it."""
    old = tf.cast(old, tf.float32)
    scale = old / size
    place = tf.range(old) + 0.5  # of the old pixels
    centre = (tf.range(size, dtype=tf.float32)[:, None] + 0.5) * scale
    distance = (place - centre) / tf.maximum(scale, 1.0)  # (size, old)
    weights = tf.cast((distance > -0.5) & (distance <= 0.5), tf.float32)
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)


def wav_decoder(shape):
    """A function of the bytes of a WAV file that returns its windows, as they are tested.

    As `read_audio` and `clip_of`: channels are averaged, what has another rate is resampled, and K windows are spread
    evenly over the file. Refused are files of more than `MAX_WAV_BYTES`, of samples that have not 16 bits, or of a rate
    outside `MIN_RATE` to `MAX_RATE` or with next to no common divisor with the model's, see `resample`.

    Returns:
        The function, which returns `{"samples": (K, window) float32, "length": (K,) int32}` and which windows exist.
    """
    window, rate, kept = shape
    most = int(count_clips(kept / rate, shape))

    def decode(encoded):
        is_small = tf.strings.length(encoded) <= MAX_WAV_BYTES
        with tf.control_dependencies([tf.debugging.Assert(is_small, ["too long"])]):
            samples, own_rate = tf.audio.decode_wav(encoded)  # (S, channels)
        usable = (own_rate >= MIN_RATE) & (own_rate <= MAX_RATE) & (tf.size(samples) > 0)
        with tf.control_dependencies([tf.debugging.Assert(usable, [own_rate])]):
            sound = tf.reduce_mean(samples[: samples_for(kept, own_rate, rate)], axis=1)
        sound = tf.cond(tf.equal(own_rate, rate), lambda: sound, lambda: resample(sound, own_rate, rate))[:kept]
        length = tf.shape(sound)[0]
        stored = tf.clip_by_value(tf.round(sound * 32768.0), -32768.0, 32767.0)
        example = {"samples": tf.pad(stored, [[0, kept - length]]), "length": length}
        count = tf.where(length <= window, 1, tf.minimum(tf.cast(tf.math.ceil(2 * length / window), tf.int32), most))
        clips = [clip_of(example, shape, tf.minimum(number, count - 1), count) for number in range(most)]
        return {name: tf.stack([clip[name] for clip in clips]) for name in clips[0]}, tf.range(most) < count

    return decode, {"samples": ((most, window), tf.float32), "length": ((most,), tf.int32)}


def encode_image(example, shape):
    """`{"image": (H, W, c) in [0, 255]}` -> the bytes of a PNG file."""
    return tf.io.encode_png(tf.cast(tf.round(example["image"]), tf.uint8)).numpy()


def encode_wav(example, shape):
    """`{"samples": (window,) in [-1, 1], "length"}` -> the bytes of a WAV file of one channel and 16 bits."""
    return tf.audio.encode_wav(example["samples"][: example["length"], None], shape[1]).numpy()
