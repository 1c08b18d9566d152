"""Searches hyper-parameters of a Perceiver: `python -m tuning digits --trials 20`."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from keras_perceiver._checks import InputError, printable
from keras_perceiver.cli_options import (
    PREPROCESS,
    SOURCE,
    TRY_AGAIN,
    Data,
    chosen,
    preprocess_settings,
    table_console,
    with_options,
)


@with_options(SOURCE, PREPROCESS)
def main(
    data: Data,
    tuner: Annotated[str, typer.Option(help="random, bayesian, hyperband or grid.")] = "random",
    space: Annotated[
        Path | None, typer.Option(help="JSON file of what is tuned.", show_default="the data's, in tuning/spaces")
    ] = None,
    trials: Annotated[int, typer.Option(help="Models to try, at most.", min=1)] = 20,
    epochs: Annotated[int, typer.Option(help="Passes over the training examples, each trial.", min=1)] = 20,
    minutes: Annotated[float | None, typer.Option(help="Of the whole search.", show_default="no end")] = None,
    max_flops: Annotated[int | None, typer.Option(help="Of a forward pass of one example.")] = None,
    max_parameters: Annotated[int | None, typer.Option(help="Of a model.")] = None,
    max_latency_ms: Annotated[float | None, typer.Option(help="Of one example on this machine.")] = None,
    objective: Annotated[
        str | None, typer.Option(help="accuracy, loss or mAP, on validation.", show_default="accuracy, or mAP")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the search and of every trial.", min=0, max=2**32 - 1)] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the search.", show_default="tuning/results/<name>")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that train at once on this machine.", min=1)] = 1,
    port: Annotated[int, typer.Option(help="On which they talk.", min=0, max=65535, show_default="a free one")] = 0,
    tolerate_failures: Annotated[
        bool, typer.Option("--tolerate-failures", help="Failed trials are shown, and are no error.")
    ] = False,
    export: Annotated[bool, typer.Option("--export", help="Put the best model on the shelf.")] = False,
    shelf: Annotated[Path, typer.Option(help="Where: `<shelf>/<name>/<version>/`.")] = Path("saved_models"),
    preset: Annotated[
        str | None, typer.Option(help="The model that is tuned, see `models`.", show_default="the data set's")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="How it is trained.", show_default="the data set's")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.", show_default="float32")] = None,
    **options,
):
    """Find the best of some Perceivers on a data set.

    The same command goes on with a search that was interrupted, by Ctrl-C or otherwise. A model over a limit is not
    trained, and is no failure. Leaves trials.csv, report.md, best.json for `keras-perceiver train --config`, pictures,
    and the best model as a run.
    """
    from tuning.search import FailedTrials, search
    from tuning.tuner import ChiefLost
    from tuning.workers import WorkersLost

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        search(
            data,
            tuner=tuner,
            space=space,
            trials=trials,
            epochs=epochs,
            minutes=minutes,
            limits={"flops": max_flops, "parameters": max_parameters, "latency_ms": max_latency_ms},
            objective=objective,
            seed=seed,
            source=chosen(options, SOURCE),
            preprocess=preprocess_settings(options),
            preset=preset,
            base_recipe=recipe,
            recipe={"precision": precision},
            output=output,
            workers=workers,
            port=port,
            tolerate_failures=tolerate_failures,
            export=export,
            shelf=shelf,
            console=table_console(),
        )
    except InputError as error:
        _end(error, 2)
    except FailedTrials as error:
        _end(error, 1)
    except ChiefLost as error:
        _end(error, TRY_AGAIN)
    except WorkersLost as error:
        _end(f"{error}; the same command goes on", TRY_AGAIN)
    except KeyboardInterrupt:
        _end("stopped; the same command goes on", TRY_AGAIN)
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(said, code):
    print("\n".join(printable(line) for line in f"tuning: {said}".splitlines()), file=sys.stderr)
    raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(main)
