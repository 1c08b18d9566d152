"""The verbs of the command for what has been trained: export, benchmark, serve-config."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from keras_perceiver.cli_options import AsJson, library, table_console


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    export_format: Annotated[
        str, typer.Option("--format", help="saved_model, for TensorFlow Serving; or litert, for small computers.")
    ] = "saved_model",
    quantize: Annotated[str, typer.Option(help="Of a LiteRT file: none, float16, dynamic or int8.")] = "none",
    xla: Annotated[bool, typer.Option("--xla", help="A SavedModel with one more endpoint, compiled by XLA.")] = False,
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
            xla=xla,
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
    threads: Annotated[list[int] | None, typer.Option(help="Of the runtime.", show_default="1, 2")] = None,
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


def serve_config(
    shelf: Annotated[Path, typer.Option(help="Folder of exports: `<shelf>/<name>/<version>/`.")] = Path("saved_models"),
    canary: Annotated[
        list[str] | None, typer.Option(help="NAME=VERSION to load beside the stable one, and try.", show_default="none")
    ] = None,
    stable: Annotated[
        list[str] | None, typer.Option(help="NAME=VERSION, loaded already, to be the stable one.", show_default="none")
    ] = None,
    retire: Annotated[
        list[str] | None, typer.Option(help="NAME=VERSION not to be loaded any more.", show_default="none")
    ] = None,
    benchmark: Annotated[
        Path | None, typer.Option(help="What `benchmark --json` printed, for the batching.", show_default="none")
    ] = None,
    host: Annotated[str, typer.Option(help="Address at which the server can be asked.")] = "127.0.0.1",
    cpus: Annotated[int, typer.Option(help="Processors of the server.")] = 2,
    memory: Annotated[int | None, typer.Option(help="GiB of the server.", show_default="by the models' size")] = None,
    image: Annotated[
        str | None, typer.Option(help="Of the container.", show_default="tensorflow/serving:<version>")
    ] = None,
    root: Annotated[str, typer.Option(help="Where the server sees the shelf.")] = "/models",
    as_json: AsJson = False,
):
    """Write what an operator of TensorFlow Serving needs for the models of a shelf.

    models.config, batching.config, monitoring.config, compose.yaml and kubernetes.yaml, on the shelf. At first the
    newest version of each model is the stable one; then nothing changes unless it is asked for, one step at a time.
    """
    with library("export") as exporting:
        written = exporting.write_serving_config(
            shelf,
            canary=exporting.parse_versions("--canary", canary),
            stable=exporting.parse_versions("--stable", stable),
            retire=exporting.parse_versions("--retire", retire),
            benchmark=benchmark,
            host=host,
            cpus=cpus,
            memory=memory,
            image=image,
            root=root,
        )
    models = {name: {"versions": sorted(m.versions), "labels": m.labels} for name, m in written.models.items()}
    if as_json:
        files = {name: str(path) for name, path in written.files.items()}
        print(json.dumps({"files": files, "models": models, "notes": written.notes}, indent=2))
        return
    table = Table("model", "loaded", "stable", "canary")
    for name, model in models.items():
        labels = [str(model["labels"].get(label, "")) for label in ("stable", "canary")]
        table.add_row(name, ", ".join(map(str, model["versions"])), *labels)
    console = table_console()
    console.print(table)
    for line in [*written.notes, f"written: {', '.join(written.files)} on {shelf}"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
