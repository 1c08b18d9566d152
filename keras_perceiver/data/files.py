"""Opening files of strangers: regular ones only, of bounded size."""

import os
import stat
from pathlib import Path


def open_regular(path, max_bytes):
    """Opens a regular file to read its bytes; a pipe or a device would wait, or never end.

    Raises:
        OSError: where the file cannot be opened, is no regular file or has more than `max_bytes` bytes.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError("It is no regular file.")
    if status.st_size > max_bytes:
        raise OSError(f"It has {status.st_size:,} bytes; it may have at most {max_bytes:,}.")
    return Path(path).open("rb")


def name_of(file, what):
    """How messages call a path, or the bytes of such a file: "the film", say."""
    return f"the {what}" if isinstance(file, bytes) else f"`{file}`"
