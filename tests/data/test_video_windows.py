"""Films at a given rate: windows in training, several of them when they are tested."""

import numpy as np
import pytest
import tensorflow as tf
from films import FRAMES, RATE, SOUND_RATE, film

from keras_perceiver._checks import InputError
from keras_perceiver.data import MODALITIES, audio, video_windows
from keras_perceiver.data.audio_video import audio_video_notes, choose_audio_video_shape
from keras_perceiver.data.pipeline import fields
from keras_perceiver.data.video_windows import (
    augment_film,
    choose_film_shape,
    clip_of,
    clips_of_facts,
    count_clips,
    film_notes,
    read_film,
)
from keras_perceiver.export.endpoints import read_clips

SHAPE = (5, 6, 8, 3, 17, 12)  # windows of 5 frames, 12 a second; 17 are kept
KEPT = 12  # of a film of 23 frames, 25 a second


def moments(clip):
    """The number of the frame of the film that each frame of a clip shows."""
    return [round(float(frame.mean()) / 10) - 1 for frame in np.asarray(clip)]


@pytest.mark.parametrize(("rate", "kept"), [(12, KEPT), (12.5, 12), (29.97, 28), (0.5, 1)])
def test_films_are_kept_at_their_rate(rate, kept):
    example = read_film(film("mp4"), (*SHAPE[:5], rate))
    assert example["frames_length"] == min(kept, 17)
    expected = [min(int(i * RATE / rate + 1e-6), FRAMES - 1) for i in range(17)]
    assert moments(example["frames"]) == expected


def test_windows_cover_a_film_and_are_the_same_as_those_of_training():
    example = fields(read_film(film("mp4"), SHAPE))
    kept = moments(example["frames"])[:KEPT]
    assert count_clips([1, 5, 6, KEPT, 99], SHAPE).tolist() == [1, 1, 3, 5, 7]
    clips = [moments(clip_of(example, SHAPE, number, 3)) for number in range(3)]
    assert clips[0] == kept[:5]
    assert clips[-1] == kept[-5:]
    assert {moment for clip in clips for moment in clip} == set(kept)
    augment, starts = augment_film(SHAPE), set()
    for seed in range(12):
        clip = moments(augment(example, tf.constant([seed, 1])))
        starts.add(kept.index(clip[0]))
        assert clip == kept[kept.index(clip[0]) :][:5]
        assert clip == moments(augment(example, tf.constant([seed, 1])))
    assert len(starts) > 4


def test_a_film_that_ends_before_its_window_stays_at_its_last_frame():
    example = fields(read_film(film("mp4", frames=4), SHAPE))
    assert example["frames_length"] == 2
    assert moments(clip_of(example, SHAPE, 0, 1)) == [0, 2, 3, 3, 3]


def test_the_shape_follows_from_the_rate():
    facts = [{"size": [32, 48], "seconds": s} for s in (0.5, 2.0, 1.0)]
    assert choose_film_shape(facts, num_frames=8) == (8, 32, 48, 3)
    assert choose_film_shape(facts, num_frames=8, frame_rate=12) == (8, 32, 48, 3, 24, 12)
    assert choose_film_shape(facts, num_frames=80, frame_rate=12)[4] == 80
    assert choose_film_shape(facts, num_frames=8, frame_rate=29.97) == (8, 32, 48, 3, 60, 29.97)
    assert choose_film_shape([{"size": [32, 48], "seconds": 4000}], frame_rate=2)[4] == 120  # the first minute
    assert clips_of_facts(facts, (8, 32, 48, 3, 24, 12)).tolist() == [1, 6, 3]
    assert clips_of_facts(facts, (8, 32, 48, 3)).tolist() == [1, 1, 1]
    for wrong in (0, float("nan"), "25", True, 1e308):
        with pytest.raises(InputError, match="`frame_rate` must be a number above 0, at most 1,000"):
            choose_film_shape(facts, frame_rate=wrong)
        with pytest.raises(InputError, match="`frame_rate` must be a number above 0, at most 1,000"):
            choose_audio_video_shape([{**facts[0], "rate": 8000}], frame_rate=wrong)
    timeless = [{"size": [32, 48], "has_sound": False}]
    assert choose_film_shape(timeless, num_frames=8, frame_rate=2) == (8, 32, 48, 3)
    assert film_notes(timeless, (8, 32, 48, 3)) == [
        "frames have no times: they are spread over each film, whatever `frame_rate` is asked for"
    ]


def test_of_films_with_sound_it_says_how_many_frames_a_window_has():
    facts = [{"size": [32, 48], "seconds": 2.0, "rate": 48_000}]
    shape = choose_audio_video_shape(facts, clip_seconds=1.28, frame_rate=25)
    assert (shape[0], shape[4]) == (32, 61_440)  # the paper's
    assert choose_audio_video_shape(facts, num_frames=32, frame_rate=25) == shape
    with pytest.raises(InputError, match="One of `frame_rate`, `num_frames` and `clip_seconds` must be left out"):
        choose_audio_video_shape(facts, num_frames=32, clip_seconds=1.28, frame_rate=25)


@pytest.mark.parametrize(("frame_rate", "rate", "said"), [(20, 16_000, "16 frames beside 0.8 s"), (10, 16_000, "")])
def test_frames_that_follow_from_a_rate_are_even_and_what_the_rate_is_is_said(frame_rate, rate, said):
    """A window of sound is a multiple of 16 frames of its spectrogram, and not just as long as was asked for."""
    facts = [{"size": [32, 48], "seconds": 2.0, "rate": rate}]
    shape = choose_audio_video_shape(facts, clip_seconds=0.7, frame_rate=frame_rate)
    assert shape[0] % 2 == 0
    (note,) = audio_video_notes(facts, shape)
    told = float(note.split()[-4])
    assert told == pytest.approx(shape[0] * shape[5] / shape[4], rel=1e-3)
    assert abs(told * shape[4] / shape[5] - frame_rate * shape[4] / shape[5]) <= 1
    assert said in note


def test_a_film_whose_frames_would_fill_the_memory_is_refused():
    facts = [{"size": [480, 640], "seconds": 60.0, "rate": 16_000}]
    with pytest.raises(InputError, match=r"must take at most 268,435,456 bytes.*Ask for fewer or smaller ones"):
        choose_film_shape(facts, frame_size=(480, 640), frame_rate=25)
    with pytest.raises(InputError, match=r"must take at most 268,435,456 bytes"):
        choose_audio_video_shape(facts, frame_size=(480, 640), frame_rate=25)
    assert choose_film_shape(facts, frame_size=(224, 224), frame_rate=25)[4] == 1500


def test_a_film_is_asked_about_in_all_its_windows():
    content = film("mp4")
    asked = read_clips(MODALITIES["video"], SHAPE, content)["video"]
    example = fields(read_film(content, SHAPE))
    assert asked.shape == (5, 5, 6, 8, 3)
    for number in range(5):
        np.testing.assert_array_equal(asked[number], clip_of(example, SHAPE, number, 5))


def test_clips_are_spread_over_films_that_are_longer_than_those_of_training(monkeypatch):
    content, trained = film("mp4"), (*SHAPE[:4], 5, 12)
    asked = read_clips(MODALITIES["video"], trained, content)["video"]
    np.testing.assert_array_equal(asked, read_clips(MODALITIES["video"], SHAPE, content)["video"])
    assert moments(asked[-1])[-1] == 11 * RATE // 12
    monkeypatch.setattr(audio, "MAX_SECONDS", 0.5)
    with pytest.warns(UserWarning, match=r"only the first 0.5 s are used of the film, which is longer"):
        asked = read_clips(MODALITIES["video"], trained, content)["video"]
    assert moments(asked[-1])[-1] == 5 * RATE // 12
    monkeypatch.setattr(video_windows, "MAX_WHOLE_BYTES", 1)
    with pytest.warns(UserWarning, match=r"only the first 0.41\d* s are used"):
        assert len(read_clips(MODALITIES["video"], trained, content)["video"]) == 1


def test_clips_of_films_with_sound_are_spread_over_longer_ones_too():
    sound = np.arange(FRAMES * SOUND_RATE // RATE) / SOUND_RATE  # says when it is
    trained = (4, 6, 8, 3, 1280, 8000, 4)
    asked = read_clips(MODALITIES["audio_video"], trained, film("avi", sound=sound))
    assert asked["frames"].shape == (12, 4, 6, 8, 3)
    assert moments(asked["frames"][-1]) == [19, 20, 21, 22]
    np.testing.assert_allclose(asked["samples"][-1][:1200], (19 / RATE + np.arange(1200) / 8000), atol=0.01)


def test_films_of_which_the_first_minute_is_used_are_counted():
    facts = [{"seconds": s, "has_sound": s > 60} for s in (10, 70, 80)]
    minute = (*SHAPE[:4], 60 * RATE, RATE)
    heard = "2 films have sound, which `--modality audio_video` uses too, and `--modality audio` alone"
    assert film_notes(facts, minute) == ["only the first 60 s are used of 2 files that are longer", heard]
    assert film_notes(facts, SHAPE[:4]) == [heard]  # which are looked at whole
