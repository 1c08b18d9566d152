"""Layers and models give the same numbers on Keras' JAX backend as on TensorFlow's, and read each other's files."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests import backends

JAX = {"KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # compiling is what takes the time


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The folder of the records, and what TensorFlow found."""
    folder = tmp_path_factory.mktemp("backends")
    return folder, backends.record(folder)


def test_jax_gives_the_same_numbers(recorded):
    folder, expected = recorded
    command, environment = [sys.executable, "-m", "tests.backends", folder], {**os.environ, **JAX}
    subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[1], timeout=250)
    found = dict(np.load(folder / "jax.npz"))
    assert np.abs(found.pop("answers of tensorflow") - expected["answers"]).max() < 1e-5
    assert set(found) == set(expected)
    for name, value in found.items():
        assert np.isfinite(value).all(), name
        assert np.abs(value - expected[name]).max() < 1e-4 * max(1, np.abs(expected[name]).max()), name
    _, x, _ = backends.small_classifier()
    answers = keras.saving.load_model(folder / "jax.keras").predict(x, verbose=0)
    assert np.abs(answers - expected["answers"]).max() < 1e-5


def test_the_numbers_are_worth_comparing(recorded):
    _, found = recorded
    losses = found["fit/losses"]
    assert losses[1] < losses[0]
    cancelled = {name for name, value in found.items() if not np.abs(value).max() > 1e-6}
    assert {name.rpartition("/")[2] for name in cancelled} <= {"bias"}, "what is zero proves nothing"
