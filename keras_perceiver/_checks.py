"""Argument checks: the one place where the grammar of error messages is written.

Every message says what must hold (arguments in backticks), then `Received: name=value`, then,
where it is known, how to mend it.
"""

import difflib
import math
import os
from pathlib import Path


class InputError(ValueError):
    """Input of a user that cannot be served; its message is made to be shown as it is."""


class InputTypeError(InputError, TypeError):
    """Like `InputError`, for a value of the wrong type or dtype."""


def given(settings):
    """The settings that were given, of a dictionary of all of them or None: those that are not None."""
    return {name: value for name, value in (settings or {}).items() if value is not None}


def require(condition, rule, *, repair="", error=InputError, **received):
    """Raises `error` in the house's grammar unless `condition` holds."""
    if condition:
        return
    parts = [rule.rstrip(".") + "."]
    if received:
        values = ", ".join(f"{name}={value!r}" for name, value in received.items())
        parts.append(f"Received: {values}.")
    if repair:
        parts.append(repair)
    raise error(" ".join(parts))


def require_positive(**arguments):
    """Requires each argument to be an integer of at least 1."""
    require_at_least(1, **arguments)


def require_at_least(minimum, **arguments):
    """Requires each argument to be an integer of at least `minimum`."""
    for name, value in arguments.items():
        legal = isinstance(value, int) and not isinstance(value, bool) and value >= minimum
        require(legal, f"`{name}` must be an integer of at least {minimum}", **{name: value})


def require_between(low, high, **arguments):
    """Requires each argument to be a number in [low, high)."""
    for name, value in arguments.items():
        legal = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value < high
        require(legal, f"`{name}` must be a number in [{low}, {high})", **{name: value})


def require_above(minimum, **arguments):
    """Requires each argument to be a finite number above `minimum`."""
    for name, value in arguments.items():
        legal = isinstance(value, (int, float)) and not isinstance(value, bool) and minimum < value < math.inf
        require(legal, f"`{name}` must be a finite number above {minimum}", **{name: value})


def require_one_of(allowed, **arguments):
    """Requires each argument to be one of `allowed`; the message names the nearest ones."""
    allowed = list(allowed)
    for name, value in arguments.items():
        require(
            value in allowed,
            f"`{name}` must be one of {', '.join(repr(a) for a in allowed)}",
            repair=nearest(value, allowed),
            **{name: value},
        )


def require_folder(**arguments):
    """Requires each argument to be a folder in which files can be made, and makes it where it does not exist."""
    for name, value in arguments.items():
        try:
            Path(value).mkdir(parents=True, exist_ok=True)
            problem = None if os.access(value, os.W_OK | os.X_OK) else "permission denied"
        except OSError as error:
            problem = error.strerror
        require(
            problem is None,
            f"`{name}` must be a folder that can be written to",
            repair=f"({problem})",
            **{name: str(value)},
        )


def nearest(value, allowed):
    """The sentence that names what the user may have meant, or an empty string."""
    close = difflib.get_close_matches(str(value), [str(a) for a in allowed], n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""


def printable(text):
    """Text of strangers with what is not printable escaped: a file's name must not drive the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
