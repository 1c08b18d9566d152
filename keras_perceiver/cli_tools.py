"""What the verbs of the command share: their console, and how they reach the library."""

import importlib
import sys
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console

from keras_perceiver._checks import InputError, printable

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def make_console():
    """A console as wide as the terminal; wide enough for every table where the output goes to a file."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


@contextmanager
def library(part):
    """Imports one part of the library when a verb needs it; its `InputError` ends with one message and code 2."""
    try:
        yield importlib.import_module(f"keras_perceiver.{part}")
    except InputError as error:
        print(f"keras-perceiver: {printable(str(error))}", file=sys.stderr)
        raise typer.Exit(2) from error
