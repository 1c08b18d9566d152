"""Sound files -> samples, windows and clips."""

import struct
import time

import numpy as np
import pytest
import tensorflow as tf
from sounds import encoded, sine, wav_bytes, write_sounds

from keras_perceiver._checks import InputError
from keras_perceiver.data import MODALITIES, audio, load_source, read_audio
from keras_perceiver.data.audio import (
    choose_audio_shape,
    clip_of,
    count_clips,
    hop_of,
    scan_audio,
    take_window,
)
from keras_perceiver.data.audio_files import decode_audio
from keras_perceiver.export.endpoints import read_clips

RATE = 8000
TONE = sine(440, 0.5, RATE)


def test_samples_that_are_kept_are_those_of_tensorflows_own_decoder():
    content = wav_bytes(TONE, RATE)
    own, rate = tf.audio.decode_wav(content)
    assert rate == RATE
    example = read_audio(content, (1280, RATE, len(TONE)))
    np.testing.assert_array_equal(example["samples"] / np.float32(32768), own[:, 0])


def test_a_long_file_is_read_up_to_what_is_kept_and_that_is_said(monkeypatch):
    monkeypatch.setattr(audio, "MAX_SECONDS", 0.25)
    facts = scan_audio(wav_bytes(sine(440, 3.0, RATE), RATE))
    assert facts["is_cut"]
    assert facts["size"] == [2000]
    assert audio.audio_notes([facts, fact(0.2)], (1280, RATE, 2000)) == [
        "only the first 0.25 s are used of 1 files that are longer"
    ]
    assert choose_audio_shape([facts])[2] == max(2000, choose_audio_shape([facts])[0])


def test_one_file_that_is_far_longer_does_not_make_all_examples_as_long():
    facts = [fact(0.5)] * 39 + [fact(50.0)]
    shape = choose_audio_shape(facts, clip_seconds=0.5)
    assert shape[2] == 4 * max(0.5 * RATE, shape[0])
    said = f"only the first {shape[2] / RATE:g} s are used of 1 files that are longer"
    assert audio.audio_notes(facts, shape) == [said]
    assert choose_audio_shape(facts, clip_seconds=20.0)[2] == 50 * RATE  # where windows are as long
    assert choose_audio_shape([*facts, fact(50.0), fact(50.0)])[2] == 50 * RATE  # where one in twenty is


def test_of_an_hour_as_on_a_disc_no_more_is_read_than_a_minute(tmp_path):
    """Two channels of 16 bits at 44.1 kHz: 635 MB, of which no byte behind the first second is on disk."""
    path, size = tmp_path / "hour.wav", 3600 * 44_100 * 4
    second = sine(440, 1.0, 44_100)
    content = bytearray(wav_bytes(np.stack([second, second], axis=1), 44_100))
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", size)
    content[4:8] = struct.pack("<I", place - 4 + size)
    path.write_bytes(content)
    with path.open("r+b") as file:
        file.truncate(place + 4 + size)
    began = time.process_time()
    facts = scan_audio(path)
    assert (facts["seconds"], facts["rate"], facts["is_cut"]) == (60.0, 44_100, True)
    example = read_audio(path, choose_audio_shape([facts]))
    assert example["length"] == 60 * 44_100
    assert np.abs(example["samples"][:44_100]).max() > 1000
    assert time.process_time() - began < 20


def test_of_an_hour_no_more_is_decoded_than_a_minute():
    content = wav_bytes(np.tile(sine(40, 1.0, 1000), 3600), 1000, width=1)
    began = time.process_time()
    facts = scan_audio(content)
    assert (facts["seconds"], facts["is_cut"]) == (60.0, True)
    assert read_audio(content, choose_audio_shape([facts]))["length"] == 60_000
    assert time.process_time() - began < 3


def test_a_file_of_another_rate_that_is_a_sample_longer_than_a_window_has_two_clips():
    """16,001 samples at 44.1 kHz are 5,805.3 at 16 kHz, and 5,806 are made of them."""
    assert len(decode_audio(wav_bytes(np.zeros(16_001), 44_100), 16_000, 9.0)[0]) == 5806
    assert count_clips([16_001 / 44_100], (5805, 16_000, 10**6)) == [3]  # each with half of the next
    assert count_clips([16_001 / 44_100], (5806, 16_000, 10**6)) == [1]
    assert count_clips(np.arange(1, 9000) / 44_100, (9000, 44_100, 10**6)).max() == 1
    np.testing.assert_array_equal(count_clips(np.array([8999, 9000, 9001]) / 44_100, (9000, 44_100, 10**6)), [1, 1, 3])


def test_what_is_shorter_than_what_is_kept_has_its_length():
    example = read_audio(wav_bytes(TONE[:80], RATE), (1280, RATE, 1601))
    assert example["length"] == 80
    assert not example["samples"][80:].any()


def fact(seconds, rate=RATE):
    return {"seconds": seconds, "rate": rate}


def test_the_shape_follows_from_the_data():
    window, rate, kept = choose_audio_shape([fact(0.5)] * 39 + [fact(1.9)])
    assert rate == RATE
    assert window % (16 * hop_of(RATE)) == 0
    assert 0.5 * RATE <= window < 1.9 * RATE
    assert kept == 1.9 * RATE
    assert choose_audio_shape([fact(1.0), fact(1.0, 11025)])[1] == 16000
    assert choose_audio_shape([fact(1.0, 96000)])[1] == 16000
    assert choose_audio_shape([fact(100.0)])[0] == 10 * RATE - 10 * RATE % -1280
    assert choose_audio_shape([fact(1.0)], sample_rate=4000, clip_seconds=2.0)[1:] == (4000, 8320)


@pytest.mark.parametrize("asked", [{"sample_rate": 1}, {"sample_rate": 96000}, {"clip_seconds": 0}])
def test_illegal_rates_and_windows_are_refused(asked):
    with pytest.raises(InputError, match=f"`{next(iter(asked))}` must be"):
        choose_audio_shape([fact(1.0)], **asked)


def test_ten_seconds_of_audioset_are_tested_in_the_papers_sixteen_windows():
    shape = choose_audio_shape([fact(10.0, rate=48_000)], clip_seconds=1.28)
    assert count_clips([10.0, 1.28, 60.0], (*shape[:2], 60 * 48_000)).tolist() == [16, 1, 16]


def test_clips_cover_a_file_from_its_first_sample_to_its_last():
    shape = (7, 1000, 31)
    example = {"samples": tf.constant(np.arange(31), tf.int16), "length": tf.constant(23)}
    assert count_clips([0.001, 0.007, 0.008, 0.023, 99.0], shape).tolist() == [1, 1, 3, 7, 9]
    clips = [np.rint(clip_of(example, shape, n, 4)["samples"] * 32768).astype(int) for n in range(4)]
    assert clips[0].tolist() == list(range(7))
    assert clips[-1].tolist() == list(range(16, 23))
    assert set(np.concatenate(clips)) == set(range(23))
    middle = clip_of(example, shape, 0, 1)
    assert np.rint(middle["samples"][0] * 32768) == 8


def test_a_window_behind_the_end_has_the_length_of_what_is_real():
    example = {"samples": tf.ones(31, tf.int16), "length": tf.constant(5)}
    assert int(take_window(example, 7, 0)["length"]) == 5


def test_sounds_that_break_off_are_named_and_used_up_to_there(tmp_path):
    write_sounds(tmp_path / "tones", {"high": 5, "low": 5})
    whole = encoded(sine(440, 3.0, RATE), RATE, "flac")
    (tmp_path / "tones" / "low" / "cut.flac").write_bytes(whole[: len(whole) // 2])
    source = load_source(tmp_path / "tones")
    notes = [note for note in source.report.notes if "cannot be decoded" in note]
    assert len(notes) == 1
    assert notes[0].endswith("up to there: low/cut.flac")
    assert not source.report.problems


def test_clips_are_spread_over_sounds_that_are_longer_than_those_of_training(monkeypatch):
    shape = (1280, RATE, 1280)
    samples = sine(3, 2.0, RATE)
    asked = read_clips(MODALITIES["audio"], shape, wav_bytes(samples[: 5 * 1280], RATE))["samples"]
    starts = [number * 4 * 1280 // 9 for number in range(10)]
    np.testing.assert_allclose(asked, [samples[start : start + 1280] for start in starts], atol=1e-4)
    many = read_clips(MODALITIES["audio"], shape, wav_bytes(np.tile(samples, 2), RATE))["samples"]
    assert many.shape == (16, 1280)
    np.testing.assert_allclose(many[-1], samples[-1280:], atol=1e-4)
    monkeypatch.setattr(audio, "MAX_SECONDS", 0.48)
    with pytest.warns(UserWarning, match="only the first 0.48 s are used of the sound, which is longer"):
        asked = read_clips(MODALITIES["audio"], shape, wav_bytes(samples, RATE))["samples"]
    assert asked.shape == (6, 1280)
    np.testing.assert_allclose(asked[-1], samples[2 * 1280 : 3 * 1280], atol=1e-4)
