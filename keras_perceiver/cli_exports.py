"""The verbs of the command for what has been trained: export and benchmark."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from keras_perceiver.cli_options import AsJson, library, table_console


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    export_format: Annotated[
        str, typer.Option("--format", help="saved_model, for TensorFlow Serving; or litert, for small computers.")
    ] = "saved_model",
    quantize: Annotated[str, typer.Option(help="Of a LiteRT file: none, float16, dynamic or int8.")] = "none",
    max_points_lost: Annotated[
        float | None,
        typer.Option(help="Hundredths of accuracy that a LiteRT file may lose.", show_default="by what is quantised"),
    ] = None,
    shelf: Annotated[Path, typer.Option(help="Folder of exports: `<shelf>/<name>/<version>/`.")] = Path("saved_models"),
    licence: Annotated[str | None, typer.Option(help="Of weights and data, for the model card.")] = None,
    as_json: AsJson = False,
):
    """Export the model of a run: a SavedModel, or a LiteRT file.

    What is written is loaded in a process without this package and compared with the model on test data; it is kept
    only if it answers alike. A LiteRT file is measured as well: size, latency, largest difference, accuracy.
    """
    console = table_console()
    with library("training") as training:
        done = training.export_run(
            run,
            export_format=export_format,
            quantize=quantize,
            shelf=shelf,
            licence=licence,
            max_points_lost=max_points_lost,
        )
    if as_json:
        print(json.dumps({"folder": str(done.folder), **done.report}, indent=2))
        return
    for line in [*done.lines(), f"export: {done.folder}"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def benchmark(
    models: Annotated[
        list[Path], typer.Argument(help="Folders of SavedModels, of LiteRT files, or of runs: then the live model.")
    ],
    batch_size: Annotated[list[int] | None, typer.Option(help="Examples at once.", show_default="1, 8, 32")] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Of an export's runtime.", show_default="1, 2")] = None,
    seconds: Annotated[float, typer.Option(help="How long each combination is timed.")] = 1.0,
    picture: Annotated[Path | None, typer.Option(help="A PNG to draw.", show_default="none")] = None,
    as_json: AsJson = False,
):
    """Time models: latency (median, 90 and 99 %) and throughput, by batch size and threads."""
    with library("export") as exporting:
        timings = exporting.benchmark(
            models, batch_sizes=batch_size or (1, 8, 32), threads=threads or (1, 2), seconds=seconds, picture=picture
        )
    if as_json:
        print(json.dumps([asdict(timing) for timing in timings], indent=2))
    else:
        table_console().print(exporting.timings_table(timings))
