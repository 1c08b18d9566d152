"""The SavedModel: the live model's numbers from raw pixels, in a process without this package."""

import json
import os
import shutil
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from keras_perceiver._checks import InputError
from keras_perceiver.data import normalize_pixels
from keras_perceiver.export import SavedClassifier, export_saved_model, predict
from keras_perceiver.export.shelf import new_version
from tests.small_classifier import NAMES, small_classifier

ANSWER = """
import sys
import numpy as np
import tensorflow as tf
folder, images, out = sys.argv[1:]
endpoint = tf.saved_model.load(folder).signatures["serving_default"]
answer = endpoint(image=tf.constant(np.load(images)))
np.savez(out, **{name: value.numpy() for name, value in answer.items()})
assert not any(name.startswith("keras_perceiver") for name in sys.modules), "the package was imported"
"""


@pytest.fixture
def model():
    return small_classifier()


def pixels(count, seed=3):
    return np.random.default_rng(seed).integers(0, 256, (count, 5, 7, 1)).astype(np.float32)


def test_the_export_equals_the_live_model_in_a_process_without_the_package(exported, tmp_path):
    model, folder = exported[0], exported[1].folder
    images = pixels(11)
    live = keras.ops.convert_to_numpy(model(normalize_pixels(images)))
    np.save(tmp_path / "images.npy", images)
    script = [sys.executable, "-c", ANSWER, str(folder), str(tmp_path / "images.npy"), str(tmp_path / "answer.npz")]
    subprocess.run(script, check=True, cwd=tmp_path, capture_output=True)
    answer = np.load(tmp_path / "answer.npz")
    assert set(answer) == {"logits", "probabilities"}
    assert np.ptp(live, axis=0).min() > 1e-2  # the answers depend on the pictures
    np.testing.assert_allclose(answer["logits"], live, atol=1e-5)
    exponentials = np.exp(live)
    np.testing.assert_allclose(
        answer["probabilities"], exponentials / exponentials.sum(axis=1, keepdims=True), atol=1e-6
    )


def test_a_keras_file_equals_the_live_model(model, tmp_path):
    images = normalize_pixels(pixels(3))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(images), model(images), atol=1e-6)


def test_each_export_is_a_new_version_and_the_old_one_stays(model, tmp_path, monkeypatch):
    """The second one without the gate, which takes what seconds it has."""
    export = export_saved_model(model, "animals", NAMES, shelf=tmp_path)
    monkeypatch.setattr("keras_perceiver.export.saved_model._passed", lambda *_: export.report)
    first = export.folder
    before = SavedClassifier(first).logits(pixels(2))
    model.get_layer("logits").bias.assign(np.ones(3))
    second = export_saved_model(model, "animals", NAMES, shelf=tmp_path).folder
    assert [first.name, second.name] == ["1", "2"]
    np.testing.assert_array_equal(SavedClassifier(first).logits(pixels(2)), before)
    newest = SavedClassifier(tmp_path / "animals")
    np.testing.assert_allclose(newest.logits(pixels(2)), before + 1, atol=1e-6)
    assert sorted(p.name for p in (tmp_path / "animals").iterdir()) == ["1", "2"]


def test_an_export_that_fails_leaves_nothing(model, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_perceiver.export.saved_model.write_warm_up", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_saved_model(model, "animals", NAMES, shelf=tmp_path)
    assert list((tmp_path / "animals").iterdir()) == []


def test_behind_the_last_version_that_a_server_has_room_for_there_is_no_other(model, tmp_path, monkeypatch):
    """Which is said before anything is written."""
    home = tmp_path / "animals"
    (home / "999999999999999999").mkdir(parents=True)
    written = "keras_perceiver.export.saved_model.write_endpoints"
    monkeypatch.setattr(written, lambda *_: pytest.fail("the model was written"))
    with pytest.raises(InputError, match=r"at most 18 digits.*next='1000000000000000000'"):
        export_saved_model(model, "animals", NAMES, shelf=tmp_path)
    assert [path.name for path in home.iterdir()] == ["999999999999999999"]


@pytest.mark.parametrize("name", ["../animals", "a/b", "", ".hidden", "-x", "a b"])
def test_a_name_that_could_leave_the_shelf_is_refused(model, tmp_path, name):
    with pytest.raises(InputError, match="`name` must begin with a letter or digit"):
        export_saved_model(model, name, NAMES, shelf=tmp_path / "shelf")
    assert not (tmp_path / "shelf").exists()


def test_class_names_that_do_not_fit_are_refused(model, tmp_path):
    with pytest.raises(InputError, match="class_names=2, logits=3"):
        export_saved_model(model, "animals", NAMES[:2], shelf=tmp_path)


def test_predictions_name_the_best_classes_of_each_file(exported, tmp_path, monkeypatch):
    from PIL import Image

    folder = exported[1].folder
    images, files = pixels(4), []
    for i, image in enumerate(images):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(image[..., 0].astype(np.uint8)).save(files[-1])
    probabilities = SavedClassifier(folder).probabilities(images)
    for prediction, file, row in zip(predict(folder.parent, files, top=2), files, probabilities, strict=True):
        order = np.argsort(-row)
        assert prediction.file == str(file)
        assert prediction.classes == tuple(NAMES[i] for i in order[:2])
        np.testing.assert_allclose(prediction.probabilities, row[order[:2]], rtol=1e-5)
    inverted = predict(folder, files, top=1, invert=True)
    expected = SavedClassifier(folder).probabilities(255 - images).max(axis=1)
    np.testing.assert_allclose([p.probabilities[0] for p in inverted], expected, rtol=1e-5)

    sizes, real = [], SavedClassifier.probabilities
    monkeypatch.setattr(
        SavedClassifier, "probabilities", lambda self, x: sizes.append(len(x["image"])) or real(self, x)
    )
    many = predict(folder, files * 17, top=1, invert=True)
    assert sizes == [64, 4]  # so many files at once that memory is bounded
    np.testing.assert_allclose([p.probabilities[0] for p in many], np.tile(expected, 17), rtol=1e-5)


def test_a_file_that_cannot_be_read_costs_the_others_nothing(exported, tmp_path):
    from PIL import Image

    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file, image in zip(files, pixels(3), strict=True):
        Image.fromarray(image[..., 0].astype(np.uint8)).save(file)
    alone = predict(exported[1].folder, [files[0], files[2]])
    files[1].write_bytes(files[1].read_bytes()[:40])
    answers = predict(exported[1].folder, files)
    for answer, expected in zip(answers[::2], alone, strict=True):
        assert answer.classes == expected.classes
        np.testing.assert_allclose(answer.probabilities, expected.probabilities, rtol=1e-5)
        assert answer.problem is None
    assert answers[1].classes == ()
    assert "1.png" in answers[1].problem
    with pytest.raises(InputError, match="None of 2 files can be read"):
        predict(exported[1].folder, [files[1], tmp_path / "nowhere.png"])


def test_what_was_killed_is_removed_a_day_later_and_versions_follow_each_other(tmp_path):
    home = tmp_path / "animals"
    for name, hours in (("old", 25), ("new", 1)):
        folder = home / f".unfinished-{name}"
        folder.mkdir(parents=True)
        os.utime(folder, times=(time.time() - 3600 * hours,) * 2)
    (home / "3").write_text("a file in the place of a version")
    (home / "²").mkdir()
    with new_version(tmp_path, "animals") as (first, published), new_version(tmp_path, "animals") as (second, later):
        for folder in (first, second):
            (folder / "content").write_text(folder.name)
    assert sorted(path.name for path in home.iterdir()) == [".unfinished-new", "3", "4", "5", "²"]
    assert [path.name for path in (*later, *published)] == ["4", "5"]
    assert (home / "5" / "content").read_text() == first.name
    (tmp_path / "link").symlink_to(home)
    with pytest.raises(InputError, match="must not be a link"), new_version(tmp_path, "link"):
        pass


def test_what_is_no_export_is_refused(tmp_path, exported):
    with pytest.raises(InputError, match=r"`image` must be of shape \(B, 5, 7, 1\).*shape=\(2, 5, 7\)"):
        SavedClassifier(exported[1].folder).logits(np.zeros((2, 5, 7)))
    with pytest.raises(InputError, match="`saved_model` must be a folder"):
        SavedClassifier(tmp_path / "nowhere")
    with pytest.raises(InputError, match="`saved_model` must be the folder of a SavedModel"):
        SavedClassifier(tmp_path)
    folder = shutil.copytree(exported[1].folder, tmp_path / "1")
    (folder / "saved_model.pb").write_bytes(b"broken")
    with pytest.raises(InputError, match="must be whole"):
        SavedClassifier(folder)
    description = folder / "assets.extra" / "perceiver.json"
    description.write_text(json.dumps({"class_names": NAMES}))
    with pytest.raises(InputError, match="keras-perceiver's own"):
        SavedClassifier(folder)
