"""tensorflow-io: what of it works everywhere against an equal few lines, and its decoders against PyAV."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from sounds import encoded, sine, wav_bytes

from keras_perceiver._checks import InputError
from keras_perceiver.data import audio_files, spec_augment, tensorflow_io
from keras_perceiver.data.audio import scan_audio
from keras_perceiver.data.audio_files import average, decode_audio

RNG = np.random.default_rng(0)
PYTHON = os.environ.get("KERAS_PERCEIVER_TENSORFLOW_IO_PYTHON")  # of an environment in which the decoders load
needs_package = pytest.mark.skipif(tensorflow_io.package() is None, reason="tensorflow-io cannot be imported here")


def both(function, monkeypatch):
    """What it returns with the package and without."""
    found = function()
    monkeypatch.setattr(tensorflow_io, "package", lambda: None)
    return found, function()


@needs_package
def test_silence_is_trimmed_alike_both_ways_and_as_numpy_does(monkeypatch):
    samples = RNG.normal(0, 0.1, (7, 53)).astype(np.float32) * (RNG.random((7, 53)) > 0.7)
    samples[3] = 0
    samples[4] = np.where(np.arange(53) == 11, -0.5, 0)
    found, alone = both(lambda: tensorflow_io.trim(tf.constant(samples), 0.05), monkeypatch)
    np.testing.assert_array_equal(found, alone)
    for row, (start, stop) in zip(samples, found.numpy(), strict=True):
        loud = np.flatnonzero(np.abs(row) > 0.05)
        assert (start, stop) == ((loud[0], loud[-1] + 1) if len(loud) else (53, 53))


@needs_package
@pytest.mark.parametrize(("fade_in", "fade_out"), [(1, 1), (5, 3), (17, 17)])
def test_fades_are_alike_both_ways_and_as_numpy_does(monkeypatch, fade_in, fade_out):
    samples = RNG.normal(size=17).astype(np.float32)
    found, alone = both(lambda: tensorflow_io.fade(tf.constant(samples), fade_in, fade_out), monkeypatch)
    np.testing.assert_allclose(found, alone, atol=1e-5)
    gain = np.ones(17)
    gain[:fade_in] *= np.linspace(0, 1, fade_in)
    gain[17 - fade_out :] *= 1 - np.linspace(0, 1, fade_out)
    np.testing.assert_allclose(found, samples * gain, atol=1e-6)


@needs_package
@pytest.mark.parametrize("axis", [0, 1], ids=["time", "frequency"])
def test_masks_of_the_same_draws_are_those_of_tensorflow_io(monkeypatch, axis):
    """It draws a width and a start from its own state; `spec_augment` draws both from the seed of the batch."""
    spectrogram = np.ones((40, 30), np.float32)
    settings = {("time_masks", "frequency_masks")[axis]: 1, ("time_mask_share", "frequency_mask_share")[axis]: 0.5}
    batch = {"audio": tf.constant(spectrogram[None, ..., None]), "audio_padding_mask": tf.ones((1, 40, 30), tf.bool)}
    for seed in range(5):
        ours = spec_augment(**settings)(batch, tf.constant([seed, 3]))["audio"][0, ..., 0].numpy()
        hidden = np.flatnonzero(ours.min(axis=1 - axis) == 0)
        draws = iter([len(hidden), hidden[0] if len(hidden) else 0])
        monkeypatch.setattr(tf.random, "uniform", lambda *a, draws=draws, **k: tf.constant(next(draws), tf.int32))
        mask = tensorflow_io.package().audio.time_mask if axis == 0 else tensorflow_io.package().audio.freq_mask
        np.testing.assert_array_equal(ours, mask(spectrogram, 10))


def test_without_native_decoders_pyav_decodes(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorflow_io, "has_native_decoders", lambda: False)
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(sine(440, 0.1, 8000), 8000))
    assert tensorflow_io.decode_natively(path, 1.0) is None
    assert scan_audio(path)["size"] == [800]


def test_what_the_native_decoders_give_is_averaged_cut_and_resampled(tmp_path, monkeypatch):
    """A double in place of the decoders, which cannot load here: two channels of 24 bits in 32."""
    tone = sine(440, 0.5, 8000)
    stereo = np.stack([np.rint(tone * 2**23), 0 * tone], 1).astype(np.int64) * 256
    monkeypatch.setattr(audio_files, "decode_natively", lambda path, seconds: (stereo.astype(np.int32), 8000))
    path = tmp_path / "a.wav"
    path.write_bytes(b"not looked at")
    samples, rate, broken_off = decode_audio(path, None, 0.25)
    assert (rate, len(samples), broken_off) == (8000, 2000, False)
    np.testing.assert_allclose(samples, tone[:2000] / 2, atol=1e-6)
    assert abs(len(decode_audio(path, 4000, 9.0)[0]) - 2000) <= 1
    monkeypatch.setattr(audio_files, "decode_natively", lambda path, seconds: (stereo, 500))
    with pytest.raises(InputError, match="It has 500 samples a second"):
        decode_audio(path, None, 1.0)


def files():
    """`{name: (bytes, how far two decoders may be apart)}`."""
    tone = sine(440, 0.4, 16_000)
    stereo = np.stack([tone, 0.3 * tone], 1)
    exact = {f"{8 * width} bit.wav": wav_bytes(stereo, 16_000, width) for width in (1, 2, 3, 4)}
    exact["flac.flac"] = encoded(tone, 16_000, "flac")
    # Of MP3 both cut off what the encoder puts in front.
    lossy = {"mp3.mp3": encoded(tone, 16_000, "mp3"), "vorbis.ogg": encoded(tone, 16_000, "vorbis")}
    return {name: (content, 1e-6) for name, content in exact.items()} | {n: (c, 1e-5) for n, c in lossy.items()}


@pytest.mark.skipif(PYTHON is None, reason="KERAS_PERCEIVER_TENSORFLOW_IO_PYTHON names no Python")
def test_both_decoders_give_the_same(tmp_path):
    """The native ones in a process of an environment with TensorFlow 2.17.1, which has nothing else of this package."""
    for name, (content, _) in files().items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "broken.flac").write_bytes(b"fLaC" + bytes(40))
    module = Path(tensorflow_io.__file__)
    code = f"""if True:
        import importlib.util, json, pathlib
        import numpy as np
        spec = importlib.util.spec_from_file_location("tensorflow_io_decoders", {str(module)!r})
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.has_native_decoders()
        rates = {{}}
        for path in sorted(pathlib.Path({str(tmp_path)!r}).iterdir()):
            found = module.decode_natively(path, 0.3)
            if found is not None:
                np.save(path.with_suffix(".npy"), found[0])
                rates[path.name] = found[1]
        print(json.dumps(rates))"""
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": ""}
    answer = subprocess.run([PYTHON, "-c", code], check=True, capture_output=True, text=True, env=quiet)
    rates = json.loads(answer.stdout.splitlines()[-1])
    assert rates == dict.fromkeys(files().keys() - {"32 bit.wav"}, 16_000)  # which is taken for another
    for name, (_, tolerance) in files().items():
        if name not in rates:
            continue
        native = average(np.load((tmp_path / name).with_suffix(".npy")).T)
        expected, _, _ = decode_audio((tmp_path / name).read_bytes(), None, 0.3)
        assert len(native) == len(expected) == 4800
        np.testing.assert_allclose(native, expected, atol=tolerance)


def test_the_installed_version_decides_whether_native_decoders_load():
    """The last package is built for TensorFlow 2.17: the library of another lacks symbols that it asks for."""
    major, minor = map(int, tf.__version__.split(".")[:2])
    assert tensorflow_io.has_native_decoders() == (tensorflow_io.package() is not None and (major, minor) <= (2, 17))
    assert sys.version_info < (3, 13) or tensorflow_io.package() is None


@pytest.mark.parametrize(("error", "is_raised"), [(NotImplementedError, False), (ValueError, True)])
def test_only_a_library_that_does_not_load_is_passed_over(error, is_raised, monkeypatch):
    def decode_wav(*_, **__):
        raise error("of the loader")

    monkeypatch.setattr(tensorflow_io, "package", lambda: SimpleNamespace(audio=SimpleNamespace(decode_wav=decode_wav)))
    uncached = tensorflow_io.has_native_decoders.__wrapped__
    if is_raised:
        with pytest.raises(error, match="of the loader"):
            uncached()
    else:
        assert not uncached()
