"""Opens every file of a folder once before anything is trained, and remembers what it found."""

import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path

import av
import PIL
import tensorflow as tf

from keras_perceiver._checks import InputError
from keras_perceiver.data.examples import in_parallel
from keras_perceiver.data.modalities import MODALITIES
from keras_perceiver.data.reports import Problem

# Of what is remembered. With TensorFlow up to 2.17 other decoders read some sounds.
VERSION = f"8, TensorFlow {tf.__version__}, Pillow {PIL.__version__}, PyAV {av.__version__}, "
VERSION += f"trimesh {version('trimesh')}"


def scan_files(root, paths, modality, console=None):
    """Decodes files in parallel.

    Facts are kept in the user's cache folder by path, size and times of change: the next scan opens only files that
    are new, have changed or were broken, as what kept a file from being read may be gone.

    Args:
        root: folder.
        paths: of files, relative to it.
        modality: key of `MODALITIES`.
        console: `rich.console.Console` for the progress bar; None for none.

    Returns:
        `(facts, problems, notes)`: `{path: facts}` of each good file, see `Modality.scan`; a `Problem` for
        each broken one; sentences.
    """
    root = Path(root).resolve()
    cache, notes = _cache_file(root, modality), []
    remembered = _read(cache)
    stamps = {path: _stamp(root / path) for path in paths}
    new = [p for p in paths if stamps[p] is None or remembered.get(p, [None])[0] != stamps[p]]
    scan = MODALITIES[modality].scan

    def examine(path):
        try:
            return {"facts": scan(root / path)}
        except InputError as error:
            return {"error": str(error).replace(str(root / path), path)}

    found = dict(zip(new, in_parallel(examine, new, "examining files", console), strict=True))
    results = {path: found.get(path) or {"facts": remembered[path][1]} for path in paths}
    facts = {path: result["facts"] for path, result in results.items() if "facts" in result}
    if any(path in facts for path in new):
        try:
            _write(cache, {path: [stamps[path], facts[path]] for path in facts})
        except OSError as error:
            notes.append(f"the scan could not be remembered in {cache}: {error.strerror}")
    problems = [Problem("broken file", path, r["error"]) for path, r in results.items() if "error" in r]
    return facts, problems, notes


def cache_folder():
    """Where this package keeps what it can make again: `$XDG_CACHE_HOME` or `~/.cache`, `keras_perceiver`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keras_perceiver"


def _cache_file(root, modality):
    digest = hashlib.blake2b(f"{root}\0{modality}".encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return cache_folder() / "scans" / f"{digest}.json"


def _stamp(path):
    """What changes with a file; None where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _read(path):
    """What was remembered; nothing where that cannot be read or was made by another version."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content["files"] if content["version"] == VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")  # two runs may scan one folder
    temporary.write_text(json.dumps({"version": VERSION, "files": files}), encoding="utf-8")
    os.replace(temporary, path)
