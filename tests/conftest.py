"""What all tests share: a quiet TensorFlow, a clean Keras before each test, golden files."""

import difflib
import json
import os
import pathlib
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()  # no test reads or fills the user's

import hypothesis
import keras
import numpy as np
import pytest

GOLDEN = pathlib.Path(__file__).parent / "golden"

# The same examples in every run, and no minutes of shrinking; `--thorough` draws others, and more.
hypothesis.settings.register_profile("same", max_examples=10, deadline=None, derandomize=True)
hypothesis.settings.register_profile("thorough", max_examples=100, deadline=None)


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="rewrite the files in tests/golden")
    parser.addoption("--thorough", action="store_true", help="also what is marked `thorough`, and more random cases")


def pytest_configure(config):
    config.addinivalue_line("markers", "thorough: one more of many like cases; runs with `--thorough` alone")
    hypothesis.settings.load_profile("thorough" if config.getoption("--thorough") else "same")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--thorough"):
        left_out = [item for item in items if item.get_closest_marker("thorough")]
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(autouse=True)
def _clean_keras(request):
    """Every test starts from the same seeds and the float32 policy, and leaves no policy behind."""
    keras.utils.set_random_seed(1)
    if hasattr(request.module, "RNG"):  # what a test draws must not depend on the tests before it
        request.module.RNG = np.random.default_rng(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def golden(request):
    """Compares the weights of a model with tests/golden/<name>.json.

    After a change of layout that is meant: `pytest tests/models/test_golden.py --update-golden`,
    and a line in CHANGELOG.md, because saved weights of users no longer fit.
    """

    def check(name, model):
        path = GOLDEN / f"{name}.json"
        actual = weight_layout(model)
        if request.config.getoption("--update-golden"):
            path.write_text(actual)
        expected = path.read_text() if path.exists() else ""
        diff = "\n".join(difflib.unified_diff(expected.splitlines(), actual.splitlines(), "golden", "now", lineterm=""))
        if diff:
            pytest.fail(
                f"The weights of {name!r} have changed. If that is meant: `pytest tests/models/test_golden.py "
                f"--update-golden`.\n{diff}",
                pytrace=False,
            )

    return check


def weight_layout(model):
    """Names and shapes of a model's weights as JSON, one weight a line, and their total."""
    lines = [f"{json.dumps(w.path)}: {json.dumps(list(w.shape))}" for w in model.weights]
    lines.append(f'"parameters": {model.count_params()}')
    return "{\n  " + ",\n  ".join(lines) + "\n}\n"


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """A finished run of the main job at a tiny budget, with its export on a shelf beside it."""
    from keras_perceiver.training import Run, train
    from tests.tiny import TINY_MODEL, TINY_RECIPE, quiet

    folder = tmp_path_factory.mktemp("tiny")
    run = Run(folder / "run")
    train(
        "digits",
        output=run.folder,
        shelf=folder / "shelf",
        seed=3,
        model=TINY_MODEL,
        recipe=TINY_RECIPE,
        console=quiet(),
    )
    return run
