"""Files decoded in a graph are the numbers of the readers that training has."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_perceiver.data import MODALITIES, read_image
from keras_perceiver.data.decoding import decode_examples, encode_image, encode_wav
from tests.sounds import sine, wav_bytes

RNG = np.random.default_rng(0)


def encoded(image, kind):
    stream = io.BytesIO()
    image.save(stream, kind)
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


def test_a_picture_comes_back_from_its_file():
    image = RNG.integers(0, 256, (5, 7, 3)).astype(np.float32)
    np.testing.assert_array_equal(read_image(encode_image({"image": image}, (5, 7, 3)), (5, 7, 3)), image)


def test_sounds_are_cut_into_the_windows_that_are_tested():
    shape, kind = (160, 8000, 400), MODALITIES["audio"]
    lengths = (100, 160, 161, 390, 900)
    sounds = [np.stack([sine(440 + n, n / 8000, 8000), sine(900, n / 8000, 8000)], 1) for n in lengths]
    files = [wav_bytes(sound, 8000) for sound in sounds]
    bad = [wav_bytes(sounds[0], 16000), files[0][:20], wav_bytes(sounds[0], 8000, width=1), b"RIFF"]
    clips, exists, valid = decode_examples(*kind.decoder(shape), tf.constant([*files, *bad]))
    np.testing.assert_array_equal(valid, [True] * 5 + [False] * 4)
    for i, file in enumerate(files):
        example = kind.read(file, shape)
        count = kind.count_of(example, shape)
        assert exists[i].numpy().sum() == count == min(3, -(-lengths[i] // 160))
        for number in range(count):
            example_fields = {name: tf.constant(example[name]) for name in example.dtype.names}
            window = kind.clip(example_fields, shape, number, count)
            np.testing.assert_allclose(clips["samples"][i, number], window["samples"], atol=1.1 / 32768)
            assert clips["length"][i, number] == window["length"]


def test_a_sound_comes_back_from_its_file():
    samples = sine(440, 0.02, 8000).astype(np.float32)
    file = encode_wav({"samples": np.pad(samples, (0, 40)), "length": 160}, (200, 8000, 200))
    example = MODALITIES["audio"].read(file, (200, 8000, 200))
    assert example["length"] == 160
    np.testing.assert_allclose(example["samples"][:160] / 32768, samples, atol=2 / 32768)
