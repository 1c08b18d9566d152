"""Files decoded in a graph are the numbers of the readers that training has."""

import functools
import io

import fuzz_images
import numpy as np
import pytest
import tensorflow as tf
from fuzz import mutants
from PIL import Image

from keras_perceiver.data import MODALITIES, read_image, resampling
from keras_perceiver.data.decoding import decode_examples, encode_image, encode_wav
from keras_perceiver.training.memory import PeakMemory
from tests.layer_checks import thorough
from tests.sounds import sine, wav_bytes

RNG = np.random.default_rng(0)
PICTURE = (13, 11, 3)


@pytest.fixture(scope="module")
def decode_pictures():
    """What a served model does with files of pictures, of shape `PICTURE`."""
    decode = functools.partial(decode_examples, *MODALITIES["image"].decoder(PICTURE))
    return tf.function(decode, input_signature=[tf.TensorSpec((None,), tf.string)])


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(5, 7, 1), (5, 7, 3)])
def test_pictures_are_those_of_the_reader(shape):
    pngs = [
        encoded(Image.fromarray(RNG.integers(0, 256, (*size, *channels), np.uint8)), "PNG")
        for channels in ((), (3,), (4,), (2,))
        for size in ((5, 7), (23, 17), (3, 4), (1, 1))
    ]
    smooth = np.add.outer(2 * np.arange(40.0), 3 * np.arange(31.0)).astype(np.uint8)
    pngs.append(encoded(Image.fromarray(smooth).convert("P"), "PNG"))
    colour = Image.fromarray(RNG.integers(0, 256, (6, 9, 4), np.uint8)).quantize(11)  # 4 bits a pixel
    pngs += [encoded(colour, "PNG"), encoded(colour.convert("1"), "PNG"), encoded(colour, "PNG", transparency=3)]
    jpegs = [encoded(Image.fromarray(x), "JPEG") for x in (smooth, np.stack([smooth, smooth // 2, 255 - smooth], -1))]
    clips, _, valid = decode_examples(*MODALITIES["image"].decoder(shape), tf.constant([*pngs, *jpegs]))
    assert valid.numpy().all()
    expected = np.stack([read_image(file, shape) for file in (*pngs, *jpegs)])
    assert np.ptp(expected, axis=0).min() > 50
    assert clips["image"].shape[1:] == (1, *shape)
    difference = np.abs(clips["image"][:, 0] - expected)
    assert difference[: len(pngs)].max() <= 1  # halves are rounded otherwise
    assert (difference > 0)[: len(pngs)].mean() < 0.02
    assert difference[len(pngs) :].max() <= 6  # the reader lets the JPEG decoder do the first half of the shrinking


def test_pictures_of_every_format_are_those_of_the_reader_and_others_are_refused(decode_pictures):
    """GIF, BMP and WebP; the camera's orientation; and what would be misread, take gigabytes or break the process."""
    shape = PICTURE
    pixels = RNG.integers(0, 256, (13, 11, 4), np.uint8)
    pixels[..., 3] = np.where(pixels[..., 3] < 99, 0, 255)
    clear, colour, grey = (Image.fromarray(x) for x in (pixels, pixels[..., :3], pixels[..., 0]))
    films = {"save_all": True, "append_images": [colour.rotate(90), grey, clear]}
    good = [encoded(image, "GIF") for image in (clear, colour, grey, colour.quantize(5))]
    good += [encoded(colour, "GIF", **films), encoded(clear, "GIF", **films)]
    good += [encoded(image, "BMP") for image in (clear, colour, grey)]
    good += [encoded(image, "WEBP", lossless=lossless) for image in (clear, colour, grey) for lossless in (True, False)]
    slope = Image.fromarray(np.add.outer(11 * np.arange(13), 7 * np.arange(11)).astype(np.uint8))
    for orientation in (0, *range(1, 10)):
        exif = Image.Exif()
        exif[0x010F], exif[0x0112] = "maker", orientation
        good += [encoded(slope, "JPEG", exif=exif, quality=95), encoded(slope, "PNG", exif=exif)]
        good.append(encoded(slope, "WEBP", exif=exif, lossless=True))
    big_endian = Image.Exif()
    big_endian.endian, big_endian[0x0112] = ">", 6
    good.append(encoded(slope, "JPEG", exif=big_endian, quality=95))
    part = bytearray(encoded(grey, "GIF"))
    part[6:8] = (12).to_bytes(2, "little")  # a canvas wider than the picture
    frames = Image.new("P", (4000, 4000))
    bad = [
        encoded(colour.quantize(5), "BMP"),  # a palette of colours
        encoded(grey.convert("1"), "BMP"),
        encoded(colour, "WEBP", **films),  # TensorFlow 2.21 writes behind the end of its memory
        bytes(part),
        encoded(Image.new("P", (6000, 6000)), "GIF"),
        good[0][:40],
        b"GIF89a",
        b"BM",
        b"RIFF\0\0\0\0WEBP",
        b"\xff\xd8\xff\xe1",
        good[-1][:-40],
    ]
    many = encoded(frames, "GIF", save_all=True, append_images=[Image.new("P", (4000, 4000), i) for i in range(1, 9)])
    clips, _, valid = decode_pictures(tf.constant([*good, *bad, many]))
    np.testing.assert_array_equal(valid, [True] * len(good) + [False] * len(bad) + [True])
    for i, file in enumerate(good):
        assert np.abs(clips["image"][i, 0] - read_image(file, shape)).max() <= 1, i
    assert (np.ptp(clips["image"][: len(good)], axis=(0, 1)) > 50).all()
    assert not clips["image"][len(good) : -1].numpy().any()


@pytest.mark.parametrize("count", [20, *thorough(2000)], ids=str)
def test_mutants_of_pictures_end_in_an_example_or_are_refused(count, decode_pictures):
    """What a decoder does with memory that is not its own would end this process."""
    for number, content in enumerate(fuzz_images.valid_files().values()):
        some = list(mutants(content, count, number))
        for start in range(0, count, 20):
            clips, _, valid = decode_pictures(tf.constant(some[start : start + 20]))
            assert ((clips["image"] >= 0) & (clips["image"] <= 255)).numpy().all()
            assert not clips["image"][~valid].numpy().any()


def test_a_picture_comes_back_from_its_file():
    image = RNG.integers(0, 256, (5, 7, 3)).astype(np.float32)
    np.testing.assert_array_equal(read_image(encode_image({"image": image}, (5, 7, 3)), (5, 7, 3)), image)


def test_sounds_are_cut_into_the_windows_that_are_tested():
    shape, kind = (160, 8000, 400), MODALITIES["audio"]
    lengths = (100, 160, 161, 390, 900)
    sounds = [np.stack([sine(440 + n, n / 8000, 8000), sine(900, n / 8000, 8000)], 1) for n in lengths]
    files = [wav_bytes(sound, 8000) for sound in sounds]
    bad = [wav_bytes(sounds[0], 8001), files[0][:20], wav_bytes(sounds[0], 8000, width=1), b"RIFF"]
    bad.append(wav_bytes(sounds[0], 999))
    clips, exists, valid = decode_examples(*kind.decoder(shape), tf.constant([*files, *bad]))
    np.testing.assert_array_equal(valid, [True] * 5 + [False] * 5)
    for i, file in enumerate(files):
        example = kind.read(file, shape)
        count = kind.count_of(example, shape)
        assert exists[i].numpy().sum() == count == (1, 1, 3, 5, 5)[i]
        for number in range(count):
            example_fields = {name: tf.constant(example[name]) for name in example.dtype.names}
            window = kind.clip(example_fields, shape, number, count)
            np.testing.assert_allclose(clips["samples"][i, number], window["samples"], atol=1.1 / 32768)
            assert clips["length"][i, number] == window["length"]


@pytest.mark.parametrize("at_once", [resampling.FRAME_SAMPLES, 5000], ids=["one block", "many blocks"])
@pytest.mark.parametrize("rate", [48000, *thorough(8000)])
def test_sounds_of_another_rate_are_resampled_as_by_the_reader(rate, at_once, monkeypatch):
    """FFmpeg rounds places of its filter to 1,024ths of a sample: a ten-thousandth of the range is its own."""
    monkeypatch.setattr(resampling, "FRAME_SAMPLES", at_once)
    shape, kind, files = (rate, rate, 2 * rate), MODALITIES["audio"], []
    for own, seconds in ((11025, 0.7), (44100, 1.7), (96000, 0.3), (8000, 2.5), (16000, 0.001)):
        sound = 0.3 * sine(440, seconds, own) + 0.2 * sine(1999, seconds, own)
        files.append(wav_bytes(sound + 0.05 * RNG.normal(size=sound.shape), own))
    clips, exists, valid = decode_examples(*kind.decoder(shape), tf.constant(files))
    assert valid.numpy().all()
    for i, file in enumerate(files):
        example = kind.read(file, shape)
        count = kind.count_of(example, shape)
        assert exists[i].numpy().sum() == count
        example_fields = {name: tf.constant(example[name]) for name in example.dtype.names}
        for number in range(count):
            window = kind.clip(example_fields, shape, number, count)
            length = int(window["length"])
            assert clips["length"][i, number] == length
            far = 100 if example["length"] == shape[2] else 0  # the reader has heard what comes behind the last sample
            np.testing.assert_allclose(
                clips["samples"][i, number, : length - far], window["samples"][: length - far], atol=3e-4
            )


def test_many_long_sounds_of_another_rate_take_little_memory():
    """The frames that the filter takes of one such sound are 35 times as long: 670 MB for these ten minutes."""
    decode = functools.partial(decode_examples, *MODALITIES["audio"].decoder((16000, 16000, 16000 * 600)))
    decode = tf.function(decode, input_signature=[tf.TensorSpec((None,), tf.string)])
    file = wav_bytes(0.1 * RNG.normal(size=(8000 * 600, 1)), 8000)
    decode(tf.constant([file[:2000]]))  # what is made once is there
    memory = PeakMemory()
    assert decode(tf.constant([file] * 4))[2].numpy().all()
    assert memory.measure() < 500e6


def test_a_sound_comes_back_from_its_file():
    samples = sine(440, 0.02, 8000).astype(np.float32)
    file = encode_wav({"samples": np.pad(samples, (0, 40)), "length": 160}, (200, 8000, 200))
    example = MODALITIES["audio"].read(file, (200, 8000, 200))
    assert example["length"] == 160
    np.testing.assert_allclose(example["samples"][:160] / 32768, samples, atol=2 / 32768)
