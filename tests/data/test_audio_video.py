"""Films with their sound: frames and samples of the same moments."""

import numpy as np
import pytest
import tensorflow as tf
from films import FRAMES, RATE, SOUND_RATE, brightness, film
from sounds import sine, wav_bytes

from keras_perceiver._checks import InputError
from keras_perceiver.data import audio, films, load_source
from keras_perceiver.data.audio_video import (
    augment_audio_video,
    choose_audio_video_shape,
    clip_of,
    count_clips,
    preprocess_audio_video,
    read_audio_video,
    scan_audio_video,
)
from keras_perceiver.data.pipeline import fields
from keras_perceiver.inspection import inspect_data

CONTAINERS = ("mp4", "avi", "mpeg", "webm", "matroska")
WINDOW, SAMPLE_RATE = 1280, 8000  # 0.16 s: four frames
SHAPE = (4, 6, 8, 3, WINDOW, SAMPLE_RATE, FRAMES)
PER_FRAME = SAMPLE_RATE // RATE


def steps(frames=FRAMES):
    """Sound that is louder with each frame of the film: a tone of amplitude (number + 1) / 25."""
    number = np.arange(frames * SOUND_RATE // RATE) // (SOUND_RATE // RATE)
    return np.sin(2 * np.pi * 1000 * np.arange(len(number)) / SOUND_RATE) * (number + 1) / 25


def loudness(samples):
    """Of the time of each frame, in units of `steps`: (T,)."""
    pieces = np.asarray(samples, np.float64)[: len(samples) // PER_FRAME * PER_FRAME].reshape(-1, PER_FRAME)
    return np.sqrt(2 * np.mean(pieces**2, axis=1)) * 25 - 1


@pytest.mark.parametrize("container", CONTAINERS)
def test_frames_and_samples_are_of_the_same_moments(container):
    example = read_audio_video(film(container, sound=steps()), SHAPE)
    assert example["frames_length"] in (FRAMES, FRAMES - 1)
    assert abs(int(example["length"]) - FRAMES * PER_FRAME) < 3 * PER_FRAME  # codecs pad
    seen = example["frames"].mean(axis=(1, 2, 3)) / 10 - 1
    heard = loudness(example["samples"] / 32768)
    # An MPEG program stream has no time for every frame.
    np.testing.assert_allclose(seen[2:20], np.arange(2, 20), atol=1.5 if container == "mpeg" else 0.5)
    np.testing.assert_allclose(heard[2:20], np.arange(2, 20), atol=1.5)  # windows of codecs are longer than a frame


def test_windows_are_of_the_same_moments():
    example = fields(read_audio_video(film("avi", sound=steps()), SHAPE))
    count = int(count_clips(FRAMES / RATE, SHAPE))
    assert count == 12  # 23 frames, four in a window, of which each has about half in common with the next
    for number in range(count):
        clip = clip_of(example, SHAPE, number, count)
        seen = np.mean(clip["frames"], axis=(1, 2, 3)) / 10 - 1
        np.testing.assert_allclose(loudness(clip["samples"]), seen, atol=0.6)
    np.testing.assert_allclose(seen, [19, 20, 21, 22], atol=0.5)  # the last one ends with the film
    augment = augment_audio_video(SHAPE)
    starts = set()
    for i in range(8):
        clip = augment(example, tf.constant([1, i]))
        seen = np.mean(clip["frames"], axis=(1, 2, 3)) / 10 - 1
        starts.add(round(seen[0]))
        np.testing.assert_allclose(loudness(clip["samples"]), seen, atol=0.6)
    assert len(starts) > 3


def test_what_lies_behind_the_end_is_masked_and_enters_as_nothing():
    example = fields(read_audio_video(film("avi", frames=3, sound=steps(2)), (*SHAPE[:6], 4)))
    clip = clip_of(example, SHAPE, 0, 1)
    inputs = preprocess_audio_video(SHAPE, audio_input="raw")(clip)
    assert np.asarray(inputs["video_padding_mask"]).all(axis=(1, 2)).tolist() == [True, True, True, False]
    heard = np.asarray(inputs["audio_padding_mask"])
    assert heard.sum() == pytest.approx(2 * PER_FRAME, abs=2)
    assert not np.asarray(inputs["audio"])[~heard].any()
    assert inputs["video"].shape == SHAPE[:4]
    batch = preprocess_audio_video(SHAPE)(tf.nest.map_structure(lambda x: tf.stack([x, x]), clip))
    assert {name: tuple(x.shape) for name, x in batch.items()} == {
        "video": (2, 4, 6, 8, 3),
        "video_padding_mask": (2, 4, 6, 8),
        "audio": (2, 16, 64, 1),
        "audio_padding_mask": (2, 16, 64),
    }


def test_shapes():
    facts = [{"size": [32, 48], "seconds": s, "rate": SOUND_RATE} for s in (0.5, 1.0)]
    frames, height, width, _, window, rate, kept = choose_audio_video_shape(facts, clip_seconds=0.64, num_frames=8)
    assert (frames, height, width, window, rate) == (8, 32, 48, 30_720, SOUND_RATE)
    assert kept == 13  # 8 frames in 0.64 s: 12.5 in a second


def test_a_film_without_sound_is_named(tmp_path):
    (tmp_path / "mute.mp4").write_bytes(film("mp4"))
    for function in (scan_audio_video, lambda file: read_audio_video(file, SHAPE)):
        with pytest.raises(InputError, match=r"mute.mp4` must be a readable film .*It has no sound"):
            function(tmp_path / "mute.mp4")


def test_folders_of_films_say_that_there_is_sound_and_take_it_when_asked(tmp_path):
    for name in ("quiet", "loud"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(5):
            sound = steps(12) * (1 if name == "loud" else 0.1) + 0.01 * i
            (tmp_path / "set" / name / f"{i}.avi").write_bytes(film("avi", frames=12, size=(32, 48), sound=sound))
    (tmp_path / "set" / "loud" / "mute.mp4").write_bytes(film("mp4", frames=5, size=(32, 48)))
    seen = load_source(tmp_path / "set")
    assert seen.modality == "video"
    assert (
        "10 films have sound, which `--modality audio_video` uses too, and `--modality audio` alone"
        in seen.report.notes
    )
    options = {"modality": "audio_video", "num_frames": 4, "sample_rate": 8000, "clip_seconds": 0.16}
    source = load_source(tmp_path / "set", **options)
    assert [problem.path for problem in source.report.problems] == ["loud/mute.mp4"]
    assert source.example_shape == (4, 32, 48, 3, 1280, 8000, 12)
    found = inspect_data(tmp_path / "set", output=tmp_path / "look", source=options)
    assert found.enters_as == "video 4 x 32 x 48 x 3, audio 16 x 64 x 1"
    assert (tmp_path / "look" / "sheet.png").stat().st_size > 10_000
    assert brightness(0) == 10


def write_films(folder):
    """Ten films of two classes, by the height of their tone; and a silent one."""
    for name, pitch in (("high", 2000), ("low", 500)):
        (folder / name).mkdir(parents=True)
        for i in range(5):
            content = film("matroska", frames=5, size=(32, 48), sound=sine(pitch + 20 * i, 0.3, SOUND_RATE))
            (folder / name / f"{i}.mkv").write_bytes(content)
    (folder / "low" / "mute.mp4").write_bytes(film("mp4", frames=5, size=(32, 48)))


def test_the_sound_of_films_is_taken_alone_where_it_is_asked_for(tmp_path):
    write_films(tmp_path / "set")
    source = load_source(tmp_path / "set", modality="audio", sample_rate=8000)
    assert source.modality == "audio"
    assert [problem.path for problem in source.report.problems] == ["low/mute.mp4"]
    assert "low/mute.mp4` must be a readable film with sound" in source.report.problems[0].reason
    for split in source.splits.values():
        for example, label, name in zip(split.examples.array(), split.labels, split.names, strict=True):
            spectrum = np.abs(np.fft.rfft(example["samples"][400:2000]))  # of 0.2 s
            pitch = {"high": 2000, "low": 500}[source.class_names[label]] + 20 * int(name.split("/")[1][0])
            assert np.argmax(spectrum) == pytest.approx(0.2 * pitch, abs=1)
    assert load_source(tmp_path / "set").modality == "video"
    for i in range(12):  # most files are sounds: films are left to those who ask for films
        path = tmp_path / "set" / ("high", "low")[i % 2] / f"{i}.wav"
        path.write_bytes(wav_bytes(sine(500 + i, 0.3, 8000), 8000))
    mixed = load_source(tmp_path / "set", modality="audio")
    assert {problem.path[-4:] for problem in mixed.report.problems} == {".mkv", ".mp4"}


def test_files_of_too_many_bytes_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.avi"
    path.write_bytes(film("avi", sound=steps()))
    assert read_audio_video(path, SHAPE)["length"] > 0
    assert audio.scan_audio(path)["seconds"] > 0.5
    monkeypatch.setattr(films, "MAX_FILE_BYTES", 1000)
    for scan in (scan_audio_video, audio.scan_audio):
        with pytest.raises(InputError, match=r"a.avi` must be a readable film .*may have at most 1,000"):
            scan(path)


@pytest.mark.parametrize(
    ("shift", "silent"),
    [
        (lambda time: 0.2 * (time > 0.4), slice(11, 16)),  # a gap in the middle
        (lambda time: 0.2, slice(0, 5)),
        (lambda time: 0.03 * (time > 0.4), slice(0, 0)),  # no more than times that are rounded
    ],
    ids=["a gap", "later", "next to nothing"],
)
@pytest.mark.parametrize("container", ["matroska", "mp4"])
def test_sound_stands_where_its_times_say(container, shift, silent):
    example = read_audio_video(film(container, sound=steps(), shift=shift), (*SHAPE[:6], 27))
    expected = np.insert(np.arange(23.0), [silent.start] * (silent.stop - silent.start), -1)[:23]
    heard = loudness(example["samples"] / 32768)[:23]
    assert np.median(np.abs(heard - expected)) < 0.3
    assert (heard[silent][1:-1] < -0.5).all()
    if silent == slice(0, 0):
        assert example["length"] == read_audio_video(film(container, sound=steps()), (*SHAPE[:6], 27))["length"]


def test_sound_before_the_first_frame_is_left_out():
    """The film begins 0.2 s behind its sound."""
    content = film("matroska", sound=steps(), shift=lambda time: -0.2)
    example = read_audio_video(content, SHAPE)
    np.testing.assert_allclose(loudness(example["samples"] / 32768)[1:15], np.arange(6, 20), atol=1.5)
