"""A folder -> labelled files: what counts, what is passed over and named, and that nothing outside is read."""

import os

import numpy as np
import pytest
from PIL import Image

from keras_perceiver._checks import InputError
from keras_perceiver.data.folders import list_folder


def touch(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"")


def labels(listing):
    return {item.path: item.labels for item in listing.items}


def problems(listing):
    return {(problem.kind, problem.path) for problem in listing.problems}


def test_the_name_of_the_folder_is_the_label_however_deep_and_however_it_is_written(tmp_path):
    touch(tmp_path, "cat/a.png", "cat/b c/d.JPG", "\u732b \u2603/\u00e9.webp", "e\u0301t\u00e9/x.bmp")
    listing = list_folder(tmp_path)
    assert labels(listing) == {
        "cat/a.png": ("cat",),
        "cat/b c/d.JPG": ("cat",),
        "\u732b \u2603/\u00e9.webp": ("\u732b \u2603",),
        "e\u0301t\u00e9/x.bmp": ("\u00e9t\u00e9",),
    }
    assert listing.modality == "image"
    assert listing.problems == []


def test_folders_of_splits_are_told_from_classes_of_that_name(tmp_path):
    touch(tmp_path / "splits", "train/cat/a.png", "val/cat/a.png", "Testing/dog/a.png", "train/loose.png")
    listing = list_folder(tmp_path / "splits")
    assert {item.path: (item.split, item.labels) for item in listing.items} == {
        "train/cat/a.png": ("train", ("cat",)),
        "val/cat/a.png": ("validation", ("cat",)),
        "Testing/dog/a.png": ("test", ("dog",)),
    }
    assert problems(listing) == {("file without label", "train/loose.png")}
    touch(tmp_path / "toys", "train/a.png", "car/a.png", "plane/a.png")
    assert {item.split for item in list_folder(tmp_path / "toys").items} == {None}
    assert {item.labels[0] for item in list_folder(tmp_path / "toys").items} == {"train", "car", "plane"}


def test_folders_beside_those_of_splits_are_named_and_hold_no_class(tmp_path):
    touch(tmp_path, "train/cat/a.png", "train/dog/a.png", "test/cat/a.png", "unlabeled/a.png", "extra/cat/a.png")
    touch(tmp_path, "docs/a.pdf", "__MACOSX/train/._a.png")
    listing = list_folder(tmp_path)
    assert {(item.split, item.labels[0]) for item in listing.items} == {
        ("train", "cat"),
        ("train", "dog"),
        ("test", "cat"),
    }
    beside = {path for kind, path in problems(listing) if kind == "folder of no split"}
    assert beside == {"unlabeled", "extra", "docs", "__MACOSX"}
    assert problems(listing) - {("folder of no split", p) for p in beside} == {("not of this modality", "docs/a.pdf")}


@pytest.mark.parametrize("name", ["dev", "eval"])
def test_other_names_of_the_validation_split_are_known(tmp_path, name):
    touch(tmp_path, "train/cat/a.png", "train/dog/a.png", f"{name}/cat/a.png")
    assert {item.split for item in list_folder(tmp_path).items} == {"train", "validation"}


@pytest.mark.parametrize(
    "paths",
    [
        ("train/cat/a.png", "train/dog/a.png", "holdout/cat/a.png"),
        ("train/cat/a.png", "train/a.png", "test/cat/a.png", "plane/a.png"),
        ("train/cat/a.png", "test/a.png", "plane/a.png"),
        ("test/cat/a.png", "val/dog/a.png"),
    ],
)
def test_folders_that_may_be_splits_or_classes_are_refused(tmp_path, paths):
    touch(tmp_path, *paths)
    with pytest.raises(InputError, match="It must be clear whether the folders of `data` are splits or classes"):
        list_folder(tmp_path)


def test_two_folders_of_one_split_are_refused(tmp_path):
    touch(tmp_path, "train/cat/a.png", "val/cat/a.png", "dev/cat/a.png")
    with pytest.raises(InputError, match="There must be one folder for each split"):
        list_folder(tmp_path)


def test_what_cannot_be_used_is_named(tmp_path):
    touch(tmp_path, "cat/a.png", "cat/notes.txt", "loose.png", ".hidden/a.png", "cat/.DS_Store")
    (tmp_path / "dog").mkdir()
    (tmp_path / "owl").mkdir()
    os.mkfifo(tmp_path / "owl" / "pipe.png")
    listing = list_folder(tmp_path)
    assert labels(listing) == {"cat/a.png": ("cat",)}
    assert problems(listing) == {
        ("not of this modality", "cat/notes.txt"),
        ("file without label", "loose.png"),
        ("empty class", "dog"),
        ("empty class", "owl"),
        ("not a file", "owl/pipe.png"),
    }
    assert sorted(listing.hidden) == [".hidden", "cat/.DS_Store"]


def test_links_that_leave_the_folder_are_passed_over_and_those_within_are_not(tmp_path):
    touch(tmp_path, "outside/secret.png", "data/cat/a.png", "data/dog/b.png")
    data = tmp_path / "data"
    (data / "cat" / "within.png").symlink_to(data / "dog" / "b.png")
    (data / "cat" / "out.png").symlink_to(tmp_path / "outside" / "secret.png")
    (data / "cat" / "nowhere.png").symlink_to(tmp_path / "nothing")
    (data / "cat" / "loop").symlink_to(data)
    (data / "owl").symlink_to(tmp_path / "outside")
    listing = list_folder(data)
    assert set(labels(listing)) == {"cat/a.png", "cat/within.png", "dog/b.png"}
    assert problems(listing) == {("link", p) for p in ("cat/out.png", "cat/nowhere.png", "cat/loop", "owl")}


def test_a_name_that_is_no_unicode_is_passed_over(tmp_path):
    touch(tmp_path, "cat/a.png")
    (tmp_path / "cat" / os.fsdecode(b"\xff.png")).write_bytes(b"")
    listing = list_folder(tmp_path)
    assert set(labels(listing)) == {"cat/a.png"}
    assert problems(listing) == {("name", "cat/\\xff.png")}


@pytest.mark.parametrize("names", [("Cat", "cat"), ("\u00c9t\u00e9", "e\u0301te\u0301")])
def test_classes_that_differ_in_case_only_are_refused(tmp_path, names):
    touch(tmp_path, f"{names[0]}/a.png", f"{names[1]}/b.png")
    with pytest.raises(InputError, match=r"Classes must differ in more than case. Received: classes="):
        list_folder(tmp_path)


def test_a_folder_without_files_of_a_known_modality_is_refused(tmp_path):
    touch(tmp_path, "cat/a.txt")
    with pytest.raises(InputError, match=r"files of a known modality \(image: .jpg, "):
        list_folder(tmp_path)


def test_a_folder_that_cannot_be_opened_is_named_and_one_may_lie_deep(tmp_path, monkeypatch):
    touch(tmp_path, "cat/a.png", "cat/" + "d/" * 300 + "b.png", "dog/c.png")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    listing = list_folder(tmp_path)
    assert len(listing.items) == 2
    assert problems(listing) == {("folder", "dog"), ("empty class", "dog")}


def test_a_folder_that_cannot_be_opened_at_all_says_why(tmp_path, monkeypatch):
    def scandir(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=r"`data` must be a folder that can be read. .*\(Permission denied\)"):
        list_folder(tmp_path)


def test_a_link_to_what_cannot_be_looked_at_is_passed_over(tmp_path, monkeypatch):
    touch(tmp_path, "cat/a.png", "cat/locked/b.png")
    (tmp_path / "cat" / "link.png").symlink_to(tmp_path / "cat" / "locked" / "b.png")
    real = os.stat

    def stat(path, *args, **options):
        if os.fspath(path).endswith("locked/b.png"):
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert ("link", "cat/link.png") in problems(list_folder(tmp_path))


# labels.csv


def test_a_file_is_found_however_its_name_is_written_and_a_hidden_one_is_said_to_be_hidden(tmp_path):
    touch(tmp_path, "e\u0301.png", "b.png", ".c.png", ".d/e.png")
    (tmp_path / "labels.csv").write_text("file,label\n\u00e9.png,cat\nb.png,dog\n.c.png,cat\n.d/e.png,dog\n", "utf-8")
    listing = list_folder(tmp_path)
    assert labels(listing) == {"e\u0301.png": ("cat",), "b.png": ("dog",)}
    assert problems(listing) == {("label without file", ".c.png"), ("label without file", ".d/e.png")}
    assert all("hidden" in problem.reason for problem in listing.problems)


def test_a_table_gives_labels_and_splits(tmp_path):
    touch(tmp_path, "a.png", "sub/b.png", "c d.png")
    (tmp_path / "labels.csv").write_text(
        '\ufefffile,Label,split\na.png,cat,train\n./sub/b.png,dog; cat ,VAL\n"c d.png",dog,\n', encoding="utf-8"
    )
    listing = list_folder(tmp_path)
    assert labels(listing) == {"a.png": ("cat",), "sub/b.png": ("cat", "dog"), "c d.png": ("dog",)}
    assert {item.path: item.split for item in listing.items} == {
        "a.png": "train",
        "sub/b.png": "validation",
        "c d.png": None,
    }


def test_what_does_not_fit_between_table_and_folder_is_named(tmp_path):
    touch(tmp_path / "data", "a.png", "unlabelled.png", "empty.png")
    touch(tmp_path, "secret.png")
    (tmp_path / "data" / "labels.csv").write_text(
        f"file,label\na.png,cat\ngone.png,cat\nempty.png,\n../secret.png,cat\n{tmp_path}/secret.png,cat\na.png,cat\n"
    )
    listing = list_folder(tmp_path / "data")
    assert labels(listing) == {"a.png": ("cat",)}
    assert problems(listing) == {
        ("label without file", "gone.png"),
        ("file without label", "empty.png"),
        ("file without label", "unlabelled.png"),
        ("file outside", "../secret.png"),
        ("file outside", f"{tmp_path}/secret.png"),
    }


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("name,class\na.png,cat\n", "must have the columns file, label"),
        ("file,label,label\na.png,cat,cat\n", "must have the columns file, label"),
        ("", "must have the columns file, label"),
        ("file,label\na.png,cat,dog\n", "as many fields as there are columns. Received: line=2"),
        ("file,label\na.png\n", "as many fields as there are columns. Received: line=2"),
        ("file,label\na.png,cat\na.png,dog\n", "one label, or several in one row. Received: file='a.png', line=3"),
        ("file,label,split\na.png,cat,tset\n", "split='tset', line=2. Did you mean 'test'"),
        ('file,label\n"a.png,cat\n', "readable table"),
        ("file,label\n\xff,cat\n", "readable table"),
    ],
)
def test_a_table_that_is_not_legal_is_refused(tmp_path, content, rule):
    touch(tmp_path, "a.png")
    (tmp_path / "labels.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=rule):
        list_folder(tmp_path)


def test_a_folder_of_gifs_alone_is_what_most_of_them_are(tmp_path):
    still = Image.fromarray(np.zeros((5, 7), np.uint8))
    others = [Image.fromarray(np.full((5, 7), 90 * i, np.uint8)) for i in (1, 2)]
    for folder, moving in (("still", 1), ("moving", 3)):
        for i in range(4):
            path = tmp_path / folder / "a" / f"{i}.gif"
            path.parent.mkdir(parents=True, exist_ok=True)
            still.save(path, save_all=True, append_images=others if i < moving else [])
    listing = list_folder(tmp_path / "still")
    assert listing.modality == "image"
    assert listing.notes[0].startswith("1 of 4 GIFs that were looked at have several frames")
    assert "`--modality video`" in listing.notes[0]
    listing = list_folder(tmp_path / "moving")
    assert listing.modality == "video"
    assert "`--modality image`" in listing.notes[0]
    assert list_folder(tmp_path / "moving", "image").notes == []
    touch(tmp_path / "moving", "a/x.png")
    assert list_folder(tmp_path / "moving").modality == "image"
    assert not list_folder(tmp_path / "moving").notes
