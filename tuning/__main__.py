"""Searches hyper-parameters of a Perceiver: `python -m tuning digits --trials 3`."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from keras_perceiver._checks import InputError
from tuning.search import FailedTrials, search


def main(
    data: Annotated[str, typer.Argument(help="The data set: 'digits'.")],
    trials: Annotated[int, typer.Option(help="Models to train.", min=1)] = 20,
    epochs: Annotated[int, typer.Option(help="Passes over the training examples, each trial.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Of the search and of every trial.", min=0)] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the search.", show_default="tuning/results/<data>")
    ] = None,
):
    """Find the best of some Perceivers on a data set, by accuracy on its validation split.

    Points of the space are drawn at random. The same command goes on with a search that was interrupted; the
    test split is not looked at.
    """
    try:
        search(data, trials=trials, epochs=epochs, seed=seed, output=output, console=Console())
    except InputError as error:
        print(f"tuning: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    except FailedTrials as error:
        print(f"tuning: {error}", file=sys.stderr)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    typer.run(main)
