"""What a wheel holds, and what the project says of itself."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_holds_the_package_and_its_command_and_nothing_else(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, check=True, cwd=ROOT, capture_output=True)
    (wheel,) = tmp_path.glob("keras_perceiver-*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "keras_perceiver").rglob("*.py")}
    assert names == modules - {"keras_perceiver/_command.py"} | {"keras_perceiver_command.py"}


def test_the_changelog_knows_the_version():
    import keras_perceiver

    assert f"## {keras_perceiver.__version__} " in (ROOT / "CHANGELOG.md").read_text()


def test_every_exception_from_the_warnings_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text()
    filters = tomllib.loads(text)["tool"]["pytest"]["ini_options"]["filterwarnings"]
    assert filters[0] == "error"
    lines = text.splitlines()
    for entry in filters[1:]:
        (number,) = [i for i, line in enumerate(lines) if entry in line]
        assert lines[number - 1].strip().startswith("#"), entry
