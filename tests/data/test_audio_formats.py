"""Decoders against files of known content, in the folder that KERAS_PERCEIVER_AUDIO_FORMATS names.

It holds `mp3_minimp3_vectors` (of the MPEG conformance suite, with the samples of the reference decoder), `flac_cellar`
(the IETF's, each with the MD5 of its samples), `zasfx_tensorflow_io` (one sound in many formats) and `wav_mp4_openl3`.
"""

import hashlib
import os
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from keras_perceiver._checks import InputError
from keras_perceiver.data.audio import read_audio, scan_audio
from keras_perceiver.data.audio_files import average, decode_audio
from keras_perceiver.data.audio_video import scan_audio_video

ROOT = Path(os.environ.get("KERAS_PERCEIVER_AUDIO_FORMATS", "/nowhere"))
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="KERAS_PERCEIVER_AUDIO_FORMATS names no folder")
STEP = 1 / 32768
FRAME = 1152  # samples of an MP3 frame


def files(pattern, *without):
    """Those of the folder; their paths relative to it are the names of the tests."""
    found = sorted(path for path in ROOT.glob(pattern) if not any(word in str(path) for word in without))
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in found]


def test_the_folder_holds_files_of_each_kind():
    """Otherwise the tests of them would have no cases, and would pass."""
    kinds = ("mp3_minimp3_vectors/*.bit", "mp3_minimp3_vectors/*he_mode.bit", "ogg_librosa/*.ogg", "*/*.wav")
    for pattern in (*kinds, *(f"flac_cellar/{kind}/*.flac" for kind in ("subset", "faulty", "uncommon"))):
        assert files(pattern), pattern


def decoded(path):
    return decode_audio(path.read_bytes(), None, 1e4)[0]


@pytest.mark.parametrize("path", files("mp3_minimp3_vectors/*.bit", "he_mode"))
def test_mp3_is_within_one_step_of_the_reference_decoder(path):
    reference, samples = np.fromfile(path.with_suffix(".pcm"), "<i2"), decoded(path)
    reference = average(reference.reshape(-1, 1 if len(reference) < 1.5 * len(samples) else 2).T)
    # A stream that begins within a frame has others in front, and its first one sounds otherwise; a last frame that is
    # cut off is decoded as far as it goes.
    assert len(reference) <= len(samples) <= len(reference) + 3 * FRAME
    lags = range(0, len(samples) - len(reference) + 1, FRAME)
    apart = [np.abs(samples[lag : lag + len(reference)] - reference) for lag in lags]
    worst = [distance[FRAME if lag else 0 :].max() for lag, distance in zip(lags, apart, strict=True)]
    assert min(worst) < 1.01 * STEP


@pytest.mark.parametrize("path", files("mp3_minimp3_vectors/*he_mode.bit"))
def test_mp3_that_changes_between_one_and_two_channels_is_averaged_frame_by_frame(path):
    reference, samples = np.fromfile(path.with_suffix(".pcm"), "<i2") / 32768, decoded(path)
    place = 0
    with av.open(str(path), format="mp3") as container:
        counts = [frame.layout.nb_channels for frame in container.decode(audio=0)]
    assert set(counts) == {1, 2}
    for number, count in enumerate(counts):
        expected = reference[place : place + count * FRAME].reshape(FRAME, count).mean(axis=1)
        np.testing.assert_allclose(samples[number * FRAME : (number + 1) * FRAME], expected, atol=1.01 * STEP)
        place += count * FRAME
    assert place == len(reference)


@pytest.mark.parametrize("path", [*files("flac_cellar/subset/*.flac"), *files("zasfx_tensorflow_io/*.flac")])
def test_flac_has_the_md5_of_its_header(path):
    header = path.read_bytes()[8:42]
    bits, md5 = ((header[12] & 1) << 4 | header[13] >> 4) + 1, header[18:34]
    digest, frames = hashlib.md5(), []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            values, channels = frame.to_ndarray(), frame.layout.nb_channels
            values = values if frame.format.is_planar else values.reshape(-1, channels).T
            frames.append(values)
            whole = values.T.astype(np.int64) >> (8 * values.dtype.itemsize - bits)
            digest.update(
                np.ascontiguousarray(whole, "<i4").view(np.uint8).reshape(-1, 4)[:, : (bits + 7) // 8].tobytes()
            )
    assert digest.digest() == md5
    np.testing.assert_array_equal(decoded(path), average(np.concatenate(frames, axis=1)))


@pytest.mark.parametrize("path", files("*/*.wav", "f32", "s24", "empty"))
def test_wav_is_what_pythons_own_reader_reads(path):
    with wave.open(str(path)) as file:
        width, channels = file.getsampwidth(), file.getnchannels()
        content = np.frombuffer(file.readframes(file.getnframes()), np.uint8).reshape(-1, width)
    whole = np.zeros((len(content), 4), np.uint8)
    whole[:, 4 - width :] = content
    if width == 1:
        whole[:, 3] ^= 0x80  # 8 bits are without sign
    values = whole.view("<i4").reshape(-1, channels) / 2**31
    np.testing.assert_allclose(decoded(path), values.mean(axis=1), atol=1e-7)
    assert scan_audio(path)["size"] == [len(values)]


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [(".wav", 0), (".flac", 0), (".s24.wav", 0), (".s24.flac", 0), (".f32.wav", 0), (".u8.flac", 512), (".ogg", 1)],
)
def test_one_sound_is_the_same_in_every_format(kind, tolerance):
    folder = ROOT / "zasfx_tensorflow_io"
    expected = average(np.fromfile(folder / "ZASFX_ADSR_no_sustain.s16le.pcm", "<i2").reshape(-1, 2).T)
    samples = decoded(folder / f"ZASFX_ADSR_no_sustain{kind}")
    assert len(samples) == len(expected)
    np.testing.assert_allclose(samples, expected, atol=tolerance * STEP)


@pytest.mark.parametrize("path", files("ogg_librosa/*.ogg"))
def test_ogg_is_as_long_as_its_last_page_says(path):
    content = path.read_bytes()
    granule = content.rindex(b"OggS") + 6
    assert len(decoded(path)) == int.from_bytes(content[granule : granule + 8], "little")


@pytest.mark.parametrize("path", [*files("flac_cellar/faulty/*.flac"), *files("*/empty.wav")])
def test_broken_files_are_refused_by_name(path):
    for function in (scan_audio, lambda file: read_audio(file, (1280, 8000, 8000))):
        with pytest.raises(InputError, match="must be a readable sound"):
            function(path)


@pytest.mark.parametrize("path", files("flac_cellar/uncommon/*.flac"))
def test_what_begins_with_something_else_is_refused(path):
    with pytest.raises(InputError, match="must be a readable sound"):
        scan_audio(path)


def test_a_film_has_its_sound():
    facts = scan_audio_video(ROOT / "wav_mp4_openl3" / "bento.mp4")
    assert facts["rate"] == 44_100
    assert facts["seconds"] > 0.5
