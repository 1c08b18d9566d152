"""The scan of a folder: every good file once, remembered by path, size and times."""

import os

import pytest
from pictures import write_picture
from PIL import Image

from keras_perceiver._checks import InputError
from keras_perceiver.data import scan as scan_module
from keras_perceiver.data.modalities import MODALITIES
from keras_perceiver.data.scan import cache_folder, scan_files


@pytest.fixture
def opened(monkeypatch):
    """Names of the files that the scan opens, in any order."""
    names = []
    real = MODALITIES["image"].scan

    def scan(path):
        names.append(path.name)
        return real(path)

    object.__setattr__(MODALITIES["image"], "scan", scan)
    yield names
    object.__setattr__(MODALITIES["image"], "scan", real)


def test_a_second_scan_opens_only_what_is_new_has_changed_or_was_broken(tmp_path, opened):
    for i in range(3):
        write_picture(tmp_path / f"{i}.png", 10 * i)
    (tmp_path / "broken.png").write_text("no picture")
    paths = ["0.png", "1.png", "2.png", "broken.png"]
    first = scan_files(tmp_path, paths, "image")
    assert sorted(opened) == paths
    assert [first[0][f"{i}.png"]["high"] for i in range(3)] == [0, 10, 20]
    assert [(p.kind, p.path) for p in first[1]] == [("broken file", "broken.png")]
    assert "`broken.png` must be a readable picture" in first[1][0].reason
    opened.clear()
    assert scan_files(tmp_path, paths, "image") == first
    assert opened == ["broken.png"]  # what kept it from being read may be gone
    opened.clear()
    write_picture(tmp_path / "1.png", 200)
    os.utime(tmp_path / "1.png", ns=(1, 1))
    write_picture(tmp_path / "3.png", 30)
    write_picture(tmp_path / "broken.png", 40)
    facts, broken, _ = scan_files(tmp_path, [*paths, "3.png"], "image")
    assert sorted(opened) == ["1.png", "3.png", "broken.png"]
    assert facts["1.png"]["high"] == 200
    assert broken == []


def test_a_file_of_the_same_size_and_time_is_opened_again_when_it_was_written_again(tmp_path):
    for value in (10, 20):
        Image.new("L", (6, 5), value).save(tmp_path / "a.bmp")
        os.utime(tmp_path / "a.bmp", ns=(1, 1))
        facts, _, _ = scan_files(tmp_path, ["a.bmp"], "image")
        assert facts["a.bmp"]["high"] == value


def test_what_was_remembered_in_another_form_is_forgotten(tmp_path, opened, monkeypatch):
    write_picture(tmp_path / "a.png", 1)
    scan_files(tmp_path, ["a.png"], "image")
    monkeypatch.setattr(scan_module, "VERSION", "another")
    scan_files(tmp_path, ["a.png"], "image")
    for file in (cache_folder() / "scans").iterdir():
        file.write_text("{")
    scan_files(tmp_path, ["a.png"], "image")
    assert opened == ["a.png"] * 3


def test_a_cache_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    write_picture(tmp_path / "data" / "a.png", 1)
    (tmp_path / "cache").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    facts, _, notes = scan_files(tmp_path / "data", ["a.png"], "image")
    assert set(facts) == {"a.png"}
    assert "the scan could not be remembered" in notes[0]


def test_a_file_that_goes_away_is_named(tmp_path):
    _, problems, _ = scan_files(tmp_path, ["gone.png"], "image")
    assert "No such file" in problems[0].reason


def test_an_error_that_is_not_the_datas_goes_through(tmp_path, monkeypatch):
    write_picture(tmp_path / "a.png", 1)
    real = MODALITIES["image"].scan
    object.__setattr__(MODALITIES["image"], "scan", lambda path: 1 / 0)
    try:
        with pytest.raises(ZeroDivisionError):
            scan_files(tmp_path, ["a.png"], "image")
    finally:
        object.__setattr__(MODALITIES["image"], "scan", real)
    assert not issubclass(ZeroDivisionError, InputError)
