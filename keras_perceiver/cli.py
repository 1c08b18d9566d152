"""The `keras-perceiver` command: every verb is one call into the library with the same names."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from keras_perceiver._checks import given, printable
from keras_perceiver.cli_exports import benchmark, export, serve_config
from keras_perceiver.cli_machines import data_service, launch
from keras_perceiver.cli_options import (
    AUGMENTATION,
    PREPROCESS,
    SOURCE,
    AsJson,
    Data,
    chosen,
    library,
    preprocess_settings,
    table_console,
    with_options,
)
from keras_perceiver.cli_studies import attend, study
from keras_perceiver.cli_train import train

app = typer.Typer(
    name="keras-perceiver",
    help="Train, evaluate, export and ask Perceivers: one network for any modality.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # paragraphs of a docstring flow
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


app.command()(train)


@app.command()
@with_options(SOURCE, PREPROCESS, AUGMENTATION)
def inspect(
    data: Data,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the sheet.", show_default="inspections/<name>")
    ] = None,
    as_json: AsJson = False,
    **options,
):
    """Look at a data set before a model does.

    Counts per class and split, sizes, ranges, duplicates and broken files; and a sheet of examples as they enter the
    model, before and after augmentation.
    """
    console = table_console()
    with library("inspection") as inspection:
        found = inspection.inspect_data(
            data,
            output=output,
            source=chosen(options, SOURCE),
            preprocess=preprocess_settings(options),
            recipe=chosen(options, AUGMENTATION),
            console=None if as_json else console,
        )
    if as_json:
        print(found.to_json())
        return
    console.print(found.table())
    for line in [*found.lines(), f"sheet: {found.sheet}"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    as_json: AsJson = False,
):
    """Repeat the figures of a run on its test split, from its saved model."""
    with library("training") as training:
        metrics = training.evaluate(run)
    if as_json:
        print(json.dumps(metrics, indent=2))
        return
    console = table_console()
    console.print(_metrics_table(metrics))
    console.print(f"{training.figure_of(metrics)} on {metrics['examples']:,} test examples")


@app.command()
def predict(
    saved_model: Annotated[Path, typer.Argument(help="A SavedModel, or the folder of its versions.")],
    files: Annotated[list[Path], typer.Argument(help="Files of the kind that the model was trained on.")],
    top: Annotated[int, typer.Option(help="Classes to print per file.", min=1)] = 3,
    invert: Annotated[bool, typer.Option("--invert", help="For dark ink on white.")] = False,
    server: Annotated[
        str | None,
        typer.Option(
            help="Ask TensorFlow Serving: HOST:PORT for gRPC, http://HOST:PORT for REST; grpcs://, https:// with TLS.",
            show_default="none",
        ),
    ] = None,
    server_version: Annotated[
        str | None, typer.Option(help="Of the model there: a number, or a label.", show_default="what the server takes")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds for one request to the server.", show_default="10")
    ] = None,
    certificates: Annotated[
        Path | None, typer.Option(help="PEM file of who is trusted, for TLS.", show_default="gRPC's, or the system's")
    ] = None,
    as_json: AsJson = False,
):
    """Ask an exported model about files.

    One that cannot be read is named, the others are answered, and the code is 2 in the end.
    """
    connection = {"version": server_version, "timeout": timeout, "certificates": certificates}
    with library("export") as export:
        predictions = export.predict(saved_model, files, top=top, invert=invert, server=server, **given(connection))
    if as_json:
        print(json.dumps([asdict(p) for p in predictions], indent=2))
    else:
        table_console().print(_predictions_table(predictions))
    unread = [p for p in predictions if p.problem]
    for prediction in unread:
        print(f"not read: {printable(prediction.file)}: {printable(prediction.problem)}", file=sys.stderr)
    if unread:
        print(f"{len(unread):,} of {len(predictions):,} files could not be read", file=sys.stderr)
        raise typer.Exit(2)


def _predictions_table(predictions):
    table = Table("file", "class", "probability")
    for prediction in predictions:
        for i, (name, p) in enumerate(zip(prediction.classes, prediction.probabilities, strict=True)):
            table.add_row(Text(printable(prediction.file if i == 0 else "")), Text(printable(name)), f"{p:.2%}")
    return table


app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(launch)
app.command()(data_service)
app.command()(export)
app.command()(benchmark)
app.command(name="serve-config")(serve_config)


@app.command()
def describe(
    model: Annotated[
        str, typer.Argument(help="Name of a model (see `models`), the folder of a run, or a .keras file.")
    ],
    as_json: AsJson = False,
):
    """Print the layers of a model, its parameters, FLOPs and memory."""
    with library("inspection") as inspection:
        description = inspection.describe(model)
    if as_json:
        print(description.to_json())
    else:
        table_console().print(description.table())


@app.command()
def models(as_json: AsJson = False):
    """List the models that are known by name: the paper's, and ours for small machines."""
    with library("inspection") as inspection:
        summaries = inspection.list_presets()
        if as_json:
            print(json.dumps([asdict(s) for s in summaries], indent=2))
        else:
            table_console().print(inspection.presets_table(summaries))


app.command()(study)
app.command()(attend)


def _metrics_table(metrics):
    if "accuracy" not in metrics:
        table = Table("class", "average precision", "positives")
        for name, row in metrics["classes"].items():
            value = row["average_precision"]
            table.add_row(Text(printable(name)), "none" if value is None else f"{value:.4f}", str(row["examples"]))
        return table
    table = Table("class", "precision", "recall", "F1", "examples")
    for name, row in metrics["classes"].items():
        figures = (f"{row[key]:.2%}" for key in ("precision", "recall", "f1"))
        table.add_row(Text(printable(name)), *figures, str(row["examples"]))
    return table


if __name__ == "__main__":
    app()
