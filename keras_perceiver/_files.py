"""Files that are whole or not there at all, and one message for a disk that is full."""

import errno
import json
import os
from contextlib import contextmanager
from pathlib import Path

from keras_perceiver._checks import InputError, require

# What goes wrong with a disk or a folder, and with nothing else.
STORAGE = tuple(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO")
    if hasattr(errno, name)
)


def read_json_object(path, argument, repair=""):
    """The dictionary in a JSON file that is the value of an argument.

    Raises:
        InputError: where there is no such file, or it holds something else.
    """
    path, received = Path(path), {argument: str(path)}
    require(path.is_file(), f"`{argument}` must be a JSON file", repair=repair, **received)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"`{argument}` must be a JSON file. Received: {argument}={str(path)!r}. {error}") from error
    require(isinstance(found, dict), f"`{argument}` must hold {{name: value}}", repair=repair, **received)
    return found


def write_atomically(path, text):
    """Writes a text file in UTF-8 so that a reader, or a run that is killed, never sees half of it."""
    temporary = path.with_name(path.name + ".tmp")
    with written(path, temporary):
        temporary.write_text(text, encoding="utf-8", newline="")


@contextmanager
def written(path, temporary):
    """Puts a file that is written in the block into its place; where that fails, as on a full disk, nothing changes.

    Raises:
        InputError: where the file cannot be written.
    """
    try:
        yield
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(
            f"`{path}` must be writable. ({error.strerror or error}) What was there stays; the same command goes on."
        ) from error


def storage_problem(error):
    """What is wrong with a disk or a folder, in the words of the system; None where an error says something else.

    TensorFlow raises errors of its own, of which only the text says what the system said.
    """
    if isinstance(error, OSError) and error.errno in STORAGE:
        return error.strerror
    return next((text for text in map(os.strerror, STORAGE) if text in str(error)), None)
