"""Sound files -> samples of one channel."""

import io
import struct
from types import SimpleNamespace

import av
import numpy as np
import pytest
from sounds import CODECS, encoded, sine, wav_bytes

from keras_perceiver._checks import InputError
from keras_perceiver.data import audio_files
from keras_perceiver.data.audio import scan_audio
from keras_perceiver.data.audio_files import decode_audio

RATE = 8000
TONE = sine(440, 0.5, RATE)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_samples_of_any_width_are_exact(width):
    samples, rate, _ = decode_audio(wav_bytes(TONE, RATE, width), None, 9.0)
    steps = 2.0 ** (8 * width - 1)
    assert rate == RATE
    np.testing.assert_allclose(samples, np.rint(TONE * steps) / steps, atol=1e-7)


@pytest.mark.parametrize("channels", [2, 3, 7])
def test_channels_are_mixed_by_their_mean(channels):
    several = np.stack([TONE * k / channels for k in range(channels)], axis=1)
    samples, _, _ = decode_audio(wav_bytes(several, RATE), None, 9.0)
    np.testing.assert_allclose(samples, (np.rint(several * 32768) / 32768).mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("kind", CODECS)
def test_every_format_gives_the_sine_that_was_encoded(kind):
    content = encoded(sine(440, 1.0, 16000), 16000, kind)
    samples, rate, _ = decode_audio(content, 16000, 9.0)  # Opus knows 48 kHz only
    spectrum = np.abs(np.fft.rfft(samples[2000:14000]))  # codecs put silence around it
    assert rate == 16000
    assert np.argmax(spectrum) == 440 * 12000 // 16000
    loudness = 0.475 if kind == "mp3" else 0.5  # LAME encodes 0.95 of it
    assert abs(np.sqrt(2 * np.mean(samples[2000:14000] ** 2)) - loudness) < 0.01
    if kind in ("wav", "flac"):
        np.testing.assert_allclose(samples, sine(440, 1.0, 16000), atol=1 / 32768)


@pytest.mark.parametrize("rate", [5003, 11025, 44100])
def test_resampling_keeps_duration_and_pitch(rate):
    samples, new, _ = decode_audio(wav_bytes(sine(440, 1.0, rate), rate), RATE, 9.0)
    assert new == RATE
    assert abs(len(samples) - RATE) <= 2
    np.testing.assert_allclose(samples[500:7500], sine(440, 1.0, RATE)[500:7500], atol=0.02)


@pytest.mark.parametrize(("begins", "last"), [(0, 1024 - (320 - 128)), (-128, 1024 - 320)], ids=["late", "in time"])
def test_vorbis_is_cut_where_its_last_page_says(begins, last):
    """FFmpeg cuts 128 samples too many where it takes the block of 128 that is not heard for the first one."""

    def packet(pts, samples, cut=0):
        return SimpleNamespace(
            has_sidedata=lambda kind: bool(cut) and kind == "skip_samples",
            get_sidedata=lambda kind: struct.pack("<II", 0, cut),
            decode=lambda: [SimpleNamespace(pts=pts, samples=samples)],
        )

    packets = [packet(begins, 128), packet(begins + 128, 576), packet(begins + 704, 1024, cut=320)]
    stream = SimpleNamespace(codec_context=SimpleNamespace(flags2=0))
    heard = [count for _, count in audio_files._vorbis(SimpleNamespace(demux=lambda _: packets), stream)]
    assert heard == [576, last]
    assert stream.codec_context.flags2 & av.codec.context.Flags2.skip_manual


def test_of_hours_in_one_piece_a_minute_is_converted_and_the_largest_pieces_are_refused(tmp_path, monkeypatch):
    """As films may hold their sound, in one chunk of 8 bits a sample."""
    stream, rate = io.BytesIO(), 1000
    with av.open(stream, "w", format="avi") as container:
        track = container.add_stream("pcm_u8", rate=rate, layout="mono")
        samples = np.rint(128 + 100 * sine(40, 400.0, rate)).astype(np.uint8)
        frame = av.AudioFrame.from_ndarray(samples[None], format="u8", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        for packet in (*track.encode(frame), *track.encode(None)):
            container.mux(packet)
    path, found, average = tmp_path / "hours.avi", [], audio_files.average
    path.write_bytes(stream.getvalue())
    monkeypatch.setattr(audio_files, "average", lambda values: found.append(values.shape[1]) or average(values))
    facts = scan_audio(path)
    assert (facts["seconds"], facts["is_cut"]) == (60.0, True)
    assert max(found) < 121 * rate  # a film may begin 60 s later
    heard, _, _ = decode_audio(path, None, 1.0)
    np.testing.assert_allclose(heard, sine(40, 1.0, rate) * 200 / 256, atol=0.01)
    monkeypatch.setattr(audio_files, "MAX_FRAME_SAMPLES", 399_999)
    with pytest.raises(InputError, match=r"hours\.avi. must be a readable film with sound"):
        scan_audio(path)


@pytest.mark.parametrize("seconds", [0.4, 1.0])
def test_ogg_vorbis_is_as_long_as_it_was_made(seconds):
    samples, rate, _ = decode_audio(encoded(sine(440, seconds, 16_000), 16_000, "vorbis"), None, 9.0)
    assert (len(samples), rate) == (round(16_000 * seconds), 16_000)
    middle = slice(2000, -2000)
    np.testing.assert_allclose(samples[middle], sine(440, seconds, 16_000)[middle], atol=0.05)


def test_a_sound_in_very_many_frames_is_refused_and_not_decoded_for_minutes(monkeypatch):
    monkeypatch.setattr(audio_files, "MAX_FRAMES", 7)
    content = encoded(np.tile(TONE, 4), RATE, "flac")
    with pytest.raises(InputError, match=r"more than 7 frames in the first 9 s"):
        decode_audio(content, None, 9.0)
    monkeypatch.undo()
    assert len(decode_audio(content, None, 9.0)[0]) == 4 * len(TONE)


def test_channels_are_cut_off_at_the_full_scale_before_they_are_averaged():
    loud = np.array([[1.5, -1.5, 0.5], [-0.5, 0.5, 0.25]], np.float32)
    np.testing.assert_array_equal(audio_files.average(loud), [0.25, -0.25, 0.375])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", ""),
        (b"RIFF", ""),
        (wav_bytes(np.zeros(0), RATE), "no samples"),
        (wav_bytes(TONE, 1), "It has 1 samples a second"),
        (b"no sound at all" * 100, ""),
    ],
)
def test_what_is_no_sound_is_refused(content, reason):
    with pytest.raises(InputError, match=rf"the sound must be a readable sound .*{reason}"):
        scan_audio(content)


def test_numbers_that_are_not_finite_are_refused():
    content = bytearray(encoded(np.zeros(100), RATE, "wav").replace(b"\x01\x00\x01\x00", b"\x03\x00\x01\x00", 1))
    at = content.index(b"data")
    floats = np.full(50, np.nan, "<f4").tobytes()
    content[at + 8 :] = floats
    content[34:36] = (32).to_bytes(2, "little")
    content[32:34] = (4).to_bytes(2, "little")
    with pytest.raises(InputError, match="not finite"):
        scan_audio(bytes(content))


@pytest.mark.parametrize("rate", [1000, 11_025, 48_000])
@pytest.mark.parametrize("samples", [1, 8, 63, 64, 1000])
def test_however_short_a_sound_is_something_of_it_is_left_at_any_rate(samples, rate):
    content = wav_bytes(np.full(samples, 0.5), RATE)
    found, _, _ = decode_audio(content, rate, 1.0)
    assert len(found) == np.ceil(samples * rate / RATE)
    assert found.max() > 0.02


def test_a_file_whose_rate_changes_is_used_up_to_there():
    content = encoded(sine(440, 1.0, 16_000), 16_000, "aac") + encoded(sine(440, 1.0, RATE), RATE, "aac")
    for rate in (None, 16_000, RATE):
        samples, found, broken_off = decode_audio(content, rate, 9.0)
        assert found == (rate or 16_000)
        assert broken_off
        assert len(samples) == pytest.approx(found, rel=0.2)  # codecs pad
        spectrum = np.abs(np.fft.rfft(samples[: found // 2]))
        assert np.argmax(spectrum) == 220
