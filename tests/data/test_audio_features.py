"""Samples -> log-mel, masks, SpecAugment: against NumPy, and both ways of computing them against each other."""

import numpy as np
import pytest
import tensorflow as tf

from keras_perceiver._checks import InputError
from keras_perceiver.data import MODALITIES, augment_audio, preprocess_audio, spec_augment, tensorflow_io
from keras_perceiver.data.audio import choose_audio_shape
from keras_perceiver.models.presets import PAPER_PRESETS, paper_options

SHAPE = (2560, 8000, 4000)
SAMPLES = np.random.default_rng(4).normal(0, 0.1, (3, 2560)).astype("float32")
LENGTHS = np.array([2560, 801, 60], np.int32)


def test_the_spectrogram_is_that_of_numpy():
    found = tensorflow_io.spectrogram(SAMPLES, 256, 200, 80)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(200) / 200)
    padded = np.pad(SAMPLES, ((0, 0), (0, 200)))
    frames = np.stack([padded[:, 80 * i : 80 * i + 200] * window for i in range(32)], axis=1)
    np.testing.assert_allclose(found, np.abs(np.fft.rfft(frames, 256)), atol=1e-4)


@pytest.mark.skipif(tensorflow_io.package() is None, reason="tensorflow-io cannot be imported here")
def test_both_ways_to_compute_give_the_same(monkeypatch):
    magnitudes = tensorflow_io.spectrogram(SAMPLES, 256, 200, 80)
    mel = tensorflow_io.mel_scale(magnitudes, 8000, 23, 40.0, 4000.0)
    monkeypatch.setattr(tensorflow_io, "package", lambda: None)
    np.testing.assert_allclose(tensorflow_io.spectrogram(SAMPLES, 256, 200, 80), magnitudes, atol=1e-5)
    np.testing.assert_allclose(tensorflow_io.mel_scale(magnitudes, 8000, 23, 40.0, 4000.0), mel, atol=1e-5)


def test_log_mel_is_scaled_over_real_frames_and_masked_behind_the_end():
    out = preprocess_audio(SHAPE, num_mel_bins=23)({"samples": SAMPLES, "length": LENGTHS})
    audio, mask = out["audio"].numpy()[..., 0], out["audio_padding_mask"].numpy()
    assert audio.shape == mask.shape == (3, 32, 23)
    assert mask.all(axis=2).sum(axis=1).tolist() == [32, 11, 1]
    for row, real in zip(audio, mask, strict=True):
        assert abs(row[real].mean()) < 1e-4
        assert abs(row[real].std() - 1) < 1e-2
        assert not row[~real].any()


def test_raw_samples_are_masked_by_their_length():
    out = preprocess_audio(SHAPE, audio_input="raw")({"samples": SAMPLES, "length": LENGTHS})
    assert out["audio_padding_mask"].numpy().sum(axis=1).tolist() == LENGTHS.tolist()
    np.testing.assert_array_equal(out["audio"][1, :801, 0], SAMPLES[1, :801])
    assert not out["audio"][1, 801:].numpy().any()


def test_one_window_is_made_ready_as_in_a_batch():
    preprocess = preprocess_audio(SHAPE)
    batch = preprocess({"samples": SAMPLES, "length": LENGTHS})
    one = preprocess({"samples": SAMPLES[1], "length": LENGTHS[1]})
    np.testing.assert_allclose(one["audio"], batch["audio"][1], atol=1e-5)


def test_a_random_window_is_a_part_of_the_sound_and_follows_from_the_seed():
    example = {"samples": tf.constant(np.arange(4000), tf.int16), "length": tf.constant(3500)}
    augment = augment_audio(SHAPE)
    starts = set()
    for seed in range(9):
        clip = np.rint(augment(example, tf.constant([seed, 0]))["samples"] * 32768).astype(int)
        np.testing.assert_array_equal(np.diff(clip), 1)
        assert clip[-1] < 3500
        starts.add(clip[0])
    assert len(starts) > 5
    noisy = augment_audio(SHAPE, noise_std=0.1)
    one, other = (noisy(example, tf.constant([5, 0]))["samples"] for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_spec_augment_hides_stretches_that_differ_in_a_batch_and_follow_from_the_seed():
    batch = {"audio": tf.ones((7, 31, 23, 1)), "audio_padding_mask": tf.ones((7, 31, 23), tf.bool)}
    hide = spec_augment(time_masks=1, frequency_masks=1, time_mask_share=0.5, frequency_mask_share=0.5)
    out = hide(batch, tf.constant([3, 4]))
    seen = out["audio"].numpy()[..., 0]
    np.testing.assert_array_equal(seen, hide(batch, tf.constant([3, 4]))["audio"][..., 0])
    assert not np.array_equal(seen, hide(batch, tf.constant([3, 5]))["audio"][..., 0])
    for row in seen:
        hidden_time, hidden_band = ~row.any(axis=1), ~row.any(axis=0)
        assert hidden_time.sum() <= 16
        assert hidden_band.sum() <= 12
        np.testing.assert_array_equal(row, np.outer(~hidden_time, ~hidden_band))
        for hidden in (hidden_time, hidden_band):
            assert np.abs(np.diff(hidden.astype(int))).sum() <= 2  # one stretch
    assert len({row.tobytes() for row in seen}) > 3
    assert spec_augment() is None


@pytest.mark.parametrize("batch", [True, False])
def test_silence_at_the_ends_of_a_window_is_cut_off(batch):
    samples = np.zeros((3, 2560), np.float32)
    samples[0, 400:1500] = SAMPLES[0, 400:1500] + 0.3
    samples[1, :801] = SAMPLES[1, :801]
    samples[2, :700] = 0.001
    lengths = np.array([2560, 801, 700], np.int32)
    make = preprocess_audio(SHAPE, audio_input="raw", trim_threshold=0.2)
    if batch:
        found = make({"samples": samples, "length": lengths})
        audio, mask = found["audio"].numpy()[..., 0], found["audio_padding_mask"].numpy()
    else:
        rows = [make({"samples": row, "length": length}) for row, length in zip(samples, lengths, strict=True)]
        audio, mask = (np.stack([row[key] for row in rows]) for key in ("audio", "audio_padding_mask"))
        audio = audio[..., 0]
    for row, real, original, length in zip(audio, mask, samples, lengths, strict=True):
        loud = np.flatnonzero(np.abs(original) > 0.2)
        expected = original[loud[0] : loud[-1] + 1] if len(loud) else original[:length]  # a silent one stays
        assert real.sum() == len(expected)
        assert real[: len(expected)].all()
        np.testing.assert_array_equal(row[: len(expected)], expected)
        assert not row[len(expected) :].any()
    assert mask.sum(axis=1).tolist()[2] == 700


def test_trimmed_sounds_do_not_depend_on_the_silence_around_them():
    places = ((0, 900), (1000, 2560))  # and lengths
    tone = np.pad(SAMPLES[0, :900] + 0.4, (0, 1660))
    make = preprocess_audio(SHAPE, trim_threshold=0.05)
    early, late = (make({"samples": np.roll(tone, shift), "length": np.int32(length)}) for shift, length in places)
    np.testing.assert_allclose(early["audio"], late["audio"], atol=1e-5)
    np.testing.assert_array_equal(early["audio_padding_mask"], late["audio_padding_mask"])


@pytest.mark.parametrize("behind", [0.9, np.inf, np.nan])
@pytest.mark.parametrize("trim_threshold", [None, 0.05])
def test_what_lies_behind_the_end_of_a_sound_is_not_looked_at(trim_threshold, behind):
    tone = np.pad(SAMPLES[0, :900] + 0.4, (0, 1660))
    other = np.where(np.arange(2560) < 1000, tone, behind).astype(np.float32)
    make = preprocess_audio(SHAPE, trim_threshold=trim_threshold)
    one, two = (make({"samples": samples, "length": np.int32(1000)}) for samples in (tone, other))
    np.testing.assert_array_equal(one["audio"], two["audio"])
    np.testing.assert_array_equal(one["audio_padding_mask"], two["audio_padding_mask"])


def test_fades_are_drawn_from_the_seed_and_end_where_the_sound_ends():
    example = {"samples": tf.fill((4000,), tf.constant(16384, tf.int16)), "length": tf.constant(2000)}
    augment = augment_audio(SHAPE, fade_share=0.5)
    lengths = set()
    for seed in range(7):
        found = augment(example, tf.constant([seed, 0]))["samples"].numpy()
        np.testing.assert_array_equal(found, augment(example, tf.constant([seed, 0]))["samples"])
        assert found[0] == 0
        assert not found[2000:].any()
        louder, quieter = np.flatnonzero(found >= 0.4999)[[0, -1]]
        assert louder <= 1000
        assert quieter >= 999
        assert (np.diff(found[: louder + 1]) >= 0).all()
        assert (np.diff(found[quieter:2000]) <= 0).all()
        lengths.add((louder, quieter))
    assert len(lengths) == 7


@pytest.mark.parametrize("settings", [{"trim_threshold": 1.5}, {"trim_threshold": -0.1}])
def test_thresholds_are_checked(settings):
    with pytest.raises(InputError, match=r"`trim_threshold` must be a number in \[0, 1\)"):
        preprocess_audio(SHAPE, **settings)


def test_the_papers_spectrogram_has_4800_numbers():
    options, settings = paper_options("audioset_mel")
    shape = choose_audio_shape([{"seconds": 10.0, "rate": 48_000}], **options)
    assert shape[0] == 61_440
    kind = MODALITIES["audio"]
    assert kind.input_shape(shape, **settings) == PAPER_PRESETS["audioset_mel"]["input_shape"]
    samples = np.sin(np.arange(61_440) / 10).astype("float32") * np.linspace(0, 1, 61_440, dtype="float32")
    made = kind.preprocess(shape, **settings)({"samples": samples, "length": np.int32(30_720)})
    assert made["audio"].shape == (60, 80, 1)
    assert made["audio_padding_mask"].numpy().all(axis=1).tolist() == [True] * 30 + [False] * 30


@pytest.mark.parametrize(("hop", "rule"), [(0.5, "must be an integer"), (1000, "must divide the samples of a window")])
def test_hops_are_checked(hop, rule):
    with pytest.raises(InputError, match=f"`mel_hop` {rule}"):
        preprocess_audio(SHAPE, mel_hop=hop)
