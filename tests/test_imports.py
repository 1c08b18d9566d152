"""Holds the order of imports that CONTRIBUTING.md gives: who may import whom."""

import ast
import importlib
import inspect
import json
import pathlib
import subprocess
import sys

import pytest

import keras_perceiver

PACKAGE = pathlib.Path(keras_perceiver.__file__).parent

# Floors of the house, from the ground up: a module imports from its own floor and from lower ones.
FLOORS = [
    ["_checks"],
    ["_files"],
    ["positions"],
    ["_gradients"],
    ["byte_arrays"],
    ["attention"],
    ["_blocks"],
    ["factored"],
    ["absorbed"],
    ["attention_weights"],
    ["implementations"],  # the forms of cross-attention by name
    ["layers"],
    ["models"],
    ["data", "training", "export", "inspection"],
    ["studies"],
    ["cli_options"],
    ["cli_exports", "cli_machines", "cli_studies", "cli_train"],
    ["cli"],
]
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}
PURE = {name for name, height in FLOOR.items() if height <= FLOOR["models"]}  # on any Keras backend
PURE_IMPORTS = {"keras", "numpy", "keras_perceiver"} | sys.stdlib_module_names
# Top-level files outside the house, with what they may import of it.
OUTSIDE = {"__init__": {"layers", "models"}, "_command": {"cli"}, "__main__": {"cli"}}

FILES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)
IDS = [str(path.relative_to(PACKAGE)) for path in FILES]


def floor_of(path):
    """The name in `FLOOR` (or `OUTSIDE`) that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(source):
    """Dotted names that a source imports, wherever in it; `from a import b` gives `a.b`."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {("." * node.level) + f"{node.module or ''}.{alias.name}" for alias in node.names}
    return names


def inner_imports(path):
    """Names of floors that a file imports from."""
    dotted = [name.split(".") for name in imports_of(path.read_text()) if name.split(".")[0] == "keras_perceiver"]
    return {name[1] for name in dotted if len(name) > 1 and name[1] in FLOOR}


def test_the_parser_sees_every_way_to_import():
    source = "import a.b\nfrom c import d as e\nfrom . import f\ndef g():\n    from h.i import j\n"
    assert imports_of(source) == {"a.b", "c.d", "..f", "h.i.j"}


def test_the_picture_is_complete():
    assert {floor_of(path) for path in FILES} <= set(FLOOR) | set(OUTSIDE)
    assert {floor_of(path) for path in FILES} >= {"positions", "byte_arrays", "attention", "layers", "models"}


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_imports_go_one_way(path):
    name = floor_of(path)
    if name in OUTSIDE:
        assert inner_imports(path) <= OUTSIDE[name]
        return
    higher = {other for other in inner_imports(path) if other != name and FLOOR[other] > FLOOR[name]}
    assert not higher, f"{path} imports from above: {higher}"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_imports_are_absolute_and_never_of_tuning(path):
    found = imports_of(path.read_text())
    assert not [name for name in found if name.startswith(".") or name.split(".")[0] == "tuning"]


@pytest.mark.parametrize("path", [path for path in FILES if floor_of(path) in PURE], ids=str)
def test_up_to_the_models_only_keras_and_numpy_are_imported(path):
    assert {name.split(".")[0] for name in imports_of(path.read_text())} <= PURE_IMPORTS


def test_one_module_imports_tensorflow_io():
    users = {
        path.name for path in FILES if any(name.startswith("tensorflow_io") for name in imports_of(path.read_text()))
    }
    assert users == {"tensorflow_io.py"}


def test_importing_the_package_is_light():
    # Keras itself loads matplotlib where there is one, so only what comes on top of Keras counts.
    script = (
        "import json, sys, keras; before = set(sys.modules); import keras_perceiver; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "keras_perceiver.models.classifier" in loaded
    assert {name.split(".")[0] for name in loaded} <= {"keras_perceiver"} | sys.stdlib_module_names
    floors = {name.split(".")[1] for name in loaded if "." in name}
    assert floors <= PURE, "more than the layers and models was loaded"


@pytest.mark.parametrize("name", ["keras_perceiver", "keras_perceiver.layers", "keras_perceiver.models"])
def test_all_holds_the_public_names_sorted(name):
    module = importlib.import_module(name)
    public = {key for key, value in vars(module).items() if not key.startswith("_") and not inspect.ismodule(value)} | (
        {"__version__"} if hasattr(module, "__version__") else set()
    )
    assert set(module.__all__) == public
    # The order of ruff's RUF022: constants, classes, then the rest.
    assert module.__all__ == sorted(module.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n))


def test_the_version_is_the_distributions():
    from importlib.metadata import version

    assert version("keras-perceiver") == keras_perceiver.__version__


# What KerasTuner documents, under the names by which it does.
PUBLIC_TUNER = {f"keras_tuner{name}" for name in ("", ".oracles", ".engine.hyperparameters", ".engine.trial")}


def test_nothing_private_of_kerastuner_is_imported():
    files = [*FILES, *(PACKAGE.parent / "tuning").glob("*.py")]
    found = {name for path in files for name in imports_of(path.read_text()) if name.startswith("keras_tuner")}
    assert "keras_tuner" in found
    assert found <= PUBLIC_TUNER
