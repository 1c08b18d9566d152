"""A run that is killed between its export and its last file leaves one version on the shelf, not two."""

import json
import shutil

import pytest

from keras_perceiver import training
from keras_perceiver.data import load_source
from keras_perceiver.export.shelf import DESCRIPTION, Export, new_version, versions
from keras_perceiver.training import Run, exports
from keras_perceiver.training.configuration import configuration
from tests.tiny import TINY_MODEL, TINY_RECIPE, quiet


@pytest.fixture
def exported(monkeypatch):
    """Exports by a stand-in that leaves a description alone."""

    def export_saved_model(model, name, class_names, *, shelf, provenance, **_):
        with new_version(shelf, name) as (folder, published):
            (folder / "assets.extra").mkdir()
            (folder / "assets.extra" / DESCRIPTION).write_text(json.dumps({"provenance": provenance}))
        return Export(published[0], {})

    monkeypatch.setattr(exports, "raw_examples", lambda *_: ({}, None))
    monkeypatch.setattr(exports, "_affordable", lambda *_: exports.HELD_OUT)
    monkeypatch.setattr(exports, "export_saved_model", export_saved_model)


def test_an_export_that_was_not_written_down_is_found_again(exported, tmp_path):
    source, shelf = load_source("digits"), tmp_path / "shelf"
    config = configuration(source, 0, "perceiver", {}, {})
    arguments = (None, source, config, {})
    first, second = Run(tmp_path / "first"), Run(tmp_path / "second")
    for run in (first, second):
        run.folder.mkdir()
    folder = training.exports.export_once(first, *arguments, shelf=shelf)
    assert folder == shelf / "digits" / "1"
    assert training.exports.export_once(first, *arguments, shelf=shelf) == folder
    # Another run, and one that is begun anew, have versions of their own, whatever else lies on the shelf.
    (shelf / "digits" / "7").mkdir()
    (shelf / "digits" / "7" / "model.tflite").write_text("")
    assert training.exports.export_once(second, *arguments, shelf=shelf) == shelf / "digits" / "8"
    assert training.exports.export_once(first, *arguments, shelf=shelf) == folder
    shutil.rmtree(first.checkpoint_folder)
    assert training.exports.export_once(first, *arguments, shelf=shelf) == shelf / "digits" / "9"


@pytest.mark.thorough
def test_a_run_that_is_killed_behind_its_export_exports_once(tmp_path, monkeypatch):
    write_json = Run.write_json

    def killed(run, name, content):
        if name == "metrics.json":
            raise KeyboardInterrupt
        write_json(run, name, content)

    arguments = {"output": tmp_path / "run", "shelf": tmp_path / "shelf", "model": TINY_MODEL, "recipe": TINY_RECIPE}
    monkeypatch.setattr(Run, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        training.train("digits", console=quiet(), **arguments)
    assert versions(tmp_path / "shelf" / "digits") == [1]
    monkeypatch.undo()
    metrics = training.train("digits", console=quiet(), **arguments)
    assert versions(tmp_path / "shelf" / "digits") == [1]
    assert metrics["export"] == str(tmp_path / "shelf" / "digits" / "1")
    assert not (tmp_path / "run" / "checkpoint").exists()
