"""`train --config`: arguments of a JSON file, below those that are given."""

import json

import pytest

from keras_perceiver._checks import InputError
from keras_perceiver.training import with_settings

NONE = {"preset": None, "base_recipe": None, "source": {}, "preprocess": {}, "model": {}, "recipe": {"epochs": None}}


def written(tmp_path, content):
    path = tmp_path / "best.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_what_is_given_stands_above_the_file(tmp_path):
    path = written(
        tmp_path, {"preset": "tiny", "model": {"patch_size": [2, 4]}, "recipe": {"epochs": 7, "beta_2": 0.9}}
    )
    assert with_settings(path, NONE) == {
        **NONE,
        "preset": "tiny",
        "model": {"patch_size": (2, 4)},
        "recipe": {"epochs": 7, "beta_2": 0.9},
    }
    above = with_settings(path, {**NONE, "preset": "small", "recipe": {"epochs": 3, "beta_2": None}})
    assert (above["preset"], above["recipe"]) == ("small", {"epochs": 3, "beta_2": 0.9})


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "`config` must be a JSON file.*Expecting"),
        ("[]", r"`config` must hold {name: value}.*some of preset, "),
        ({"models": {}}, "`config` must be one of .* Did you mean 'model'"),
        ({"model": 3}, "`model` must be {name: value} in `config`"),
        ({"preset": {}}, "`preset` must be a name in `config`"),
        ({"recipe": {"rate": 1}}, "`recipe` must hold attributes of `Recipe`"),
        ({"source": {"image_sise": 8}}, "`source` must hold arguments of `load_source`.*mean 'image_size'"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, content, match):
    with pytest.raises(InputError, match=match):
        with_settings(written(tmp_path, content), NONE)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="`config` must be a JSON file"):
        with_settings(tmp_path / "none.json", NONE)
