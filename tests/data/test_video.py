"""Reading films, and what stands in front of a model of video."""

import io
import struct
from bisect import bisect_right
from types import SimpleNamespace

import av
import numpy as np
import pytest
from films import CODECS, FRAMES, HEIGHT, RATE, SOUND_RATE, WIDTH, brightness, broken_from, film
from matplotlib.figure import Figure

from keras_perceiver._checks import InputError
from keras_perceiver.data import films, video
from keras_perceiver.data.video import (
    SCAN_FRAMES,
    choose_video_shape,
    draw_video,
    preprocess_video,
    read_video,
    scan_video,
)

FILMS = {name: film(name) for name in CODECS}
SHAPE = (5, 7, 11, 3)


def moments(clip):
    """The number of the frame that each frame of a clip shows."""
    return [round(float(frame.mean()) / 10) - 1 for frame in clip]


@pytest.mark.parametrize("name", CODECS)
def test_frames_are_those_of_their_moments(name):
    clip = read_video(FILMS[name], SHAPE, frame_rate=RATE)
    assert clip.shape == SHAPE
    assert clip.dtype == np.uint8
    tolerance = 18 if name == "gif" else 4  # of a palette of 256 colours
    np.testing.assert_allclose(clip.mean(axis=(1, 2, 3)), [brightness(i) for i in range(5)], atol=tolerance)


def test_rates_and_starts_of_gifs():
    """Frames differ by 10 in brightness; in a palette of 256 colours by less than 18 from what they were."""
    for rate, start, expected in ((RATE / 3, 0.0, [0, 3, 6, 9, 12]), (RATE, 0.4001, [10, 11, 12, 13, 14])):
        clip = read_video(FILMS["gif"], SHAPE, frame_rate=rate, start_time=start)
        np.testing.assert_allclose(clip.mean(axis=(1, 2, 3)), [brightness(i) for i in expected], atol=18)


@pytest.mark.parametrize("name", [name for name in CODECS if name != "gif"])
def test_rates_and_starts(name):
    assert moments(read_video(FILMS[name], SHAPE, frame_rate=RATE / 3)) == [0, 3, 6, 9, 12]
    assert moments(read_video(FILMS[name], SHAPE, frame_rate=2 * RATE)) == [0, 0, 1, 1, 2]
    assert moments(read_video(FILMS[name], SHAPE, frame_rate=RATE, start_time=0.4001)) == [10, 11, 12, 13, 14]


def test_without_a_rate_frames_are_spread_over_the_whole_film():
    assert moments(read_video(FILMS["matroska"], (FRAMES, 2, 2, 3))) == list(range(FRAMES))
    spread = moments(read_video(FILMS["mp4"], SHAPE))
    assert spread == [0, 4, 9, 13, 18]  # 23 / 5 = 4.6 apart


def test_a_film_that_ends_stays_at_its_last_frame():
    assert moments(read_video(FILMS["mp4"], SHAPE, frame_rate=RATE, start_time=20.001 / RATE)) == [20, 21, 22, 22, 22]
    assert moments(read_video(FILMS["mp4"], SHAPE, frame_rate=RATE, start_time=1e4)) == [22] * 5


# Films of 75 frames with a key frame every 12, which are coded in another order than they are seen.
LONG = {
    "mp4": ("mp4", "mpeg4", {"b_frames": 2}),
    "avi": ("avi", "mpeg4", {"b_frames": 2}),
    "avi in order": ("avi", "mpeg4", {}),
    "mpeg2": ("matroska", "mpeg2video", {"b_frames": 2}),
    "webm": ("webm", "libvpx-vp9", {}),
    "mpeg": ("mpeg", "mpeg2video", {"b_frames": 2}),
    "h264": ("mp4", "libx264", {"b_frames": 2}),
    "open groups": ("matroska", "libx264", {"options": {"x264-params": "open-gop=1:bframes=3:scenecut=0"}}),
    "refreshed": ("matroska", "libx264", {"options": {"x264-params": "intra-refresh=1:bframes=0"}}),
}
WITHOUT_KEYS = ("mpeg", "refreshed")  # of which all is decoded
LONG_FRAMES, GROUP = 75, 12


def long_film(name):
    container, codec, settings = LONG[name]
    if codec not in av.codecs_available:
        pytest.skip(f"FFmpeg is built without {codec}")
    return film(container, frames=LONG_FRAMES, codec=codec, group=GROUP, texture=True, **settings)


def decoded_whole(content, moments, height, width):
    """What is seen at these moments, by decoding everything."""
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
    if any(frame.pts is None for frame in frames):
        times = [number / RATE for number in range(len(frames))]
    else:
        times = [(frame.pts - frames[0].pts) * stream.time_base for frame in frames]
    places = [max(0, bisect_right(times, moment + 1e-6) - 1) for moment in moments]
    options = {"format": "rgb24", "width": width, "height": height, "interpolation": "AREA"}
    return np.stack([frames[place].to_ndarray(**options) for place in places])


@pytest.mark.parametrize("name", LONG)
def test_frames_of_long_films_are_those_of_decoding_them_whole(name, monkeypatch):
    content, decoded = long_film(name), []
    seconds = scan_video(content)["seconds"]
    monkeypatch.setattr(films, "_check_decoded", decoded.append)
    for count, rate, start in ((3, None, 0.0), (8, None, 0.0), (5, 2.0, 0.31), (2, 25.0, 1.92), (7, 25.0, 2.8)):
        decoded.clear()
        clip = read_video(content, (count, 6, 8, 3), frame_rate=rate, start_time=start)
        moments = [start + i / (rate or count / seconds) for i in range(count)]
        np.testing.assert_array_equal(clip, decoded_whole(content, moments, 6, 8))
        if name not in WITHOUT_KEYS and count in (3, 2):
            assert len(decoded) < LONG_FRAMES / 2


@pytest.mark.parametrize("name", ["mp4", "webm", "mpeg"])
def test_what_lies_between_key_frames_is_bounded_when_a_film_is_examined_and_when_it_is_read(name, monkeypatch):
    content = long_film(name)
    for frames, is_legal in ((GROUP, name != "mpeg"), (GROUP - 1, False), (LONG_FRAMES, True)):
        monkeypatch.setattr(films, "MAX_DECODED", frames * films.MIN_DECODED)
        for function in (scan_video, lambda file: read_video(file, SHAPE)):
            if is_legal:
                function(content)
            else:
                with pytest.raises(InputError, match="would have to be decoded in one go: its key frames are too far"):
                    function(content)


def test_what_cannot_be_decoded_is_found_wherever_it_stands(monkeypatch):
    content = broken_from(film("webm", frames=LONG_FRAMES, group=LONG_FRAMES, texture=True), 41)
    facts = scan_video(content)
    assert facts["frames"] == LONG_FRAMES
    assert facts["is_broken_off"]
    clip = read_video(content, (LONG_FRAMES, 2, 2, 3))
    assert (clip[41:] == clip[40]).all()
    monkeypatch.setattr(video, "SCAN_PIXELS", 40 * films.MIN_DECODED)  # it is too long to be decoded whole
    assert not scan_video(content)["is_broken_off"]
    with pytest.warns(UserWarning, match="the film cannot be decoded to its end, and is used up to there"):
        read_video(content, SHAPE)


@pytest.mark.parametrize("name", ["mp4", "avi", "mpeg", "webm", "matroska"])
def test_a_sound_that_is_longer_than_its_film_does_not_mean_that_this_ends_early(name):
    facts = scan_video(film(name, frames=5, sound=np.zeros(3 * SOUND_RATE)))
    assert facts["seconds"] == pytest.approx(5 / RATE, abs=2 / RATE)
    assert not facts["is_broken_off"]


def test_frames_are_averaged_over_areas():
    halves = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    halves[:, WIDTH // 2 :] = 200
    frame = av.VideoFrame.from_ndarray(halves, format="rgb24")
    np.testing.assert_allclose(films.pixels_of(frame, 1, 1), 100, atol=2)
    np.testing.assert_allclose(films.pixels_of(frame, 1, 2)[0, :, 0], [0, 200], atol=2)


@pytest.mark.parametrize("name", CODECS)
def test_the_scan_counts_frames_and_seconds(name):
    facts = scan_video(FILMS[name])
    assert facts["size"] == [HEIGHT, WIDTH]
    assert facts["frames"] == FRAMES
    assert facts["seconds"] == pytest.approx(FRAMES / RATE, abs=2 / RATE)
    assert facts["low"] < 25
    assert facts["high"] > 220
    assert not facts["is_broken_off"]
    assert facts["hash"] == scan_video(FILMS[name])["hash"]
    assert facts["hash"] != scan_video(film(name, frames=22))["hash"]


def test_films_that_begin_and_end_alike_are_told_apart():
    """By what comes behind the frames that are hashed in all their colours."""
    early, late = (av_film(SCAN_FRAMES + 4, bright) for bright in (SCAN_FRAMES + 1, SCAN_FRAMES + 2))
    facts = [scan_video(content) for content in (early, late)]
    assert [{**fact, "hash": None} for fact in facts] == [{**facts[0], "hash": None}] * 2
    assert facts[0]["hash"] != facts[1]["hash"]


def av_film(frames, bright):
    """An MKV without losses, dark but for one frame."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="matroska") as container:
        track = container.add_stream("ffv1", rate=25)
        track.height, track.width, track.pix_fmt = 32, 48, "bgr0"
        for number in range(frames):
            pixels = np.full((32, 48, 3), 200 if number == bright else 10, np.uint8)
            container.mux(track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(track.encode())
    return stream.getvalue()


@pytest.mark.parametrize("name", ["gif", "mp4"])
@pytest.mark.parametrize("width", [34, 52, 60])
def test_films_of_any_width_are_scanned(name, width):
    """PyAV pads the rows of widths that are no multiple of eight or so."""
    content = film(name, frames=3, size=(32, width))
    assert scan_video(content)["size"] == [32, width]
    assert read_video(content, (2, 32, width, 3)).shape == (2, 32, width, 3)


# What a header says of a film's length: bytes that stand before it, how far behind their beginning, and nine hours.
LENGTHS = {
    "mp4": [(box, offset, (2**25).to_bytes(4, "big")) for box, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20))],
    "avi": [(box, offset, (2**20).to_bytes(4, "little")) for box, offset in ((b"avih", 24), (b"strh", 40))],
    "matroska": [(b"\x44\x89\x88", 3, struct.pack(">d", 2**25))],
    "webm": [(b"\x44\x89\x88", 3, struct.pack(">d", 2**25))],
}


@pytest.mark.parametrize("name", LENGTHS)
def test_a_wrong_length_in_the_header_changes_nothing(name):
    content = bytearray(FILMS[name])
    for begins, offset, length in LENGTHS[name]:
        place = content.index(begins) + offset
        content[place : place + len(length)] = length
    facts = scan_video(bytes(content))
    # It may well have been longer, and that is said; an MP4 has a table of its frames.
    assert facts.pop("is_broken_off") == (name != "mp4")
    assert facts.items() < scan_video(FILMS[name]).items()
    np.testing.assert_array_equal(read_video(bytes(content), SHAPE), read_video(FILMS[name], SHAPE))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_films_of_telephones_are_turned_as_they_are_looked_at(turns):
    """The matrix of an MP4's track turns its frames clockwise by quarters."""
    content, rows = bytearray(film("mp4", frames=2)), np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), turns)
    matrix = content.index(b"tkhd") + 44
    for place, value in zip((0, 4, 12, 16), rows.ravel(), strict=True):
        content[matrix + place : matrix + place + 4] = (int(value) << 16).to_bytes(4, "big", signed=True)
    half = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    half[:, : WIDTH // 2] = 200
    upright = [half, half.transpose(1, 0, 2), half[:, ::-1], half.transpose(1, 0, 2)[::-1]][turns]
    size = upright.shape[:2]
    assert scan_video(bytes(content))["size"] == list(size)
    frame = next(av.open(io.BytesIO(bytes(content))).decode(video=0))
    assert films.quarter_turns(frame) == -turns % 4
    assert read_video(bytes(content), (1, *size, 3)).shape == (1, *size, 3)
    picture = SimpleNamespace(
        rotation=frame.rotation,
        to_ndarray=av.VideoFrame.from_ndarray(half, format="rgb24").to_ndarray,
    )
    np.testing.assert_array_equal(films.pixels_of(picture, *size), upright)


BAD = {
    "empty.mp4": (b"", "It is empty"),
    "text.mp4": (b"#EXTM3U\nfile:///etc/passwd\n", "begins as none of these"),
    "playlist.avi": (b"ffconcat version 1.0\nfile a.mp4\n", "begins as none of these"),
    "cut.mp4": (FILMS["mp4"][:200], ""),
    "header.avi": (FILMS["avi"][:64], ""),
    "empty track.mkv": (
        FILMS["matroska"][: FILMS["matroska"].index(b"\x1f\x43\xb6\x75")],
        "ends before its first frame",
    ),
    "empty track.avi": (FILMS["avi"][: FILMS["avi"].index(b"movi") + 4], "has no frames"),
    "sound.mp4": (film("mp4", frames=0, sound=np.zeros(4800)), "no video stream"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_films_are_named_with_what_is_wrong(tmp_path, name):
    content, reason = BAD[name]
    (tmp_path / name).write_bytes(content)
    for function in (scan_video, lambda file: read_video(file, SHAPE)):
        with pytest.raises(InputError, match=rf"{name}` must be a readable film \(MP4, AVI.*{reason}"):
            function(tmp_path / name)


def test_a_film_that_was_cut_off_is_read_as_far_as_it_goes():
    cut = FILMS["matroska"][: len(FILMS["matroska"]) // 2]
    facts = scan_video(cut)
    assert 1 < facts["frames"] < FRAMES
    assert facts["is_broken_off"]
    assert moments(read_video(cut, SHAPE, frame_rate=RATE))[0] == 0


def test_frames_that_are_too_large_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(films, "MAX_PIXELS", HEIGHT * WIDTH - 1)
    with pytest.raises(InputError, match="frames of 64 x 48 pixels; they may have at most"):
        read_video(FILMS["mp4"], SHAPE)


@pytest.mark.parametrize("frame_rate", [0, -1.0, float("nan"), float("inf")])
def test_rates_are_checked(frame_rate):
    with pytest.raises(InputError, match="`frame_rate` must be a finite number above 0"):
        read_video(FILMS["mp4"], SHAPE, frame_rate=frame_rate)


def test_starts_are_checked():
    with pytest.raises(InputError, match="`start_time` must be at least 0 s"):
        read_video(FILMS["mp4"], SHAPE, frame_rate=1, start_time=-1.0)


def test_shapes():
    small, large = {"size": [48, 64]}, {"size": [480, 640]}
    assert choose_video_shape([small, small]) == (16, 48, 64, 3)
    assert choose_video_shape([small, large]) == (16, 64, 64, 3)
    assert choose_video_shape([{"size": [28, 50]}]) == (16, 32, 56, 3)  # patches of 8 divide it
    assert choose_video_shape([large], 32, 7) == (7, 32, 32, 3)
    assert choose_video_shape([large], (32, 40)) == (16, 32, 40, 3)
    with pytest.raises(InputError, match="`num_frames` must be an integer of at least 1"):
        choose_video_shape([large], num_frames=0)


def test_pixels_are_normalized_and_drawn():
    clip = preprocess_video()(read_video(FILMS["mp4"], SHAPE, frame_rate=RATE)).numpy()
    assert clip.dtype == np.float32
    assert -1 <= clip.min() < clip.max() < 0
    axes = Figure().subplots()
    draw_video(axes, clip)
    sheet = axes.images[0].get_array()
    assert sheet.shape == (2 * (7 + 1), 2 * (11 + 1), 3)
    assert (sheet[[7, 15]] == 1).all()  # white between the frames
    assert (sheet[:, [11, 23]] == 1).all()
