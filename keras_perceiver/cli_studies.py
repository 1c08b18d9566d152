"""The verbs that ask: of a data set what a network owes to what, of a model where it looks."""

from pathlib import Path
from typing import Annotated

import typer

from keras_perceiver.cli_options import (
    SOUND_INPUT,
    SOURCE,
    AsJson,
    Data,
    chosen,
    library,
    preprocess_settings,
    stopping,
    table_console,
    with_options,
)


@with_options(SOURCE, SOUND_INPUT)
def study(
    question: Annotated[
        str, typer.Argument(help="permutation, positions, depth, latents, inputs or baselines.", show_default=False)
    ],
    data: Data,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the study.", show_default="studies/<question>-<name>")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each arm, with seeds 0, 1, ..", min=1)] = 3,
    arm: Annotated[
        list[str] | None, typer.Option(help="Name of an arm, for some of them.", show_default="all arms")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="The Perceiver that is varied, see `models`.", show_default="the data set's")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training examples, of every run.")] = None,
    as_json: AsJson = False,
    **options,
):
    """Ask one of the paper's questions of a data set: several arms, several seeds, one table.

    *permutation*: accuracy with all bytes in another order, beside specialised networks. *positions*: none, learned,
    Fourier. *depth*: cross-attends against latent layers, sharing. *latents*: number, width, initial scale. *inputs*:
    cost and accuracy as M grows. *baselines*: beside specialised networks.

    Each arm sees the same number of examples. Leaves study.md, study.csv, study.json, study.png and a folder for each
    run; the same command goes on with a study that was interrupted, with more `--seeds` or other arms if asked to.
    """
    console = table_console(stderr=as_json)
    with library("studies") as studies, stopping(studies):
        result = studies.study(
            question,
            data,
            output=output,
            seeds=seeds,
            arms=arm,
            source=chosen(options, SOURCE),
            preprocess=preprocess_settings(options),
            preset=preset,
            recipe={"epochs": epochs},
            console=console,
        )
    if as_json:
        print(result.to_json())
    else:
        console.print(result.table())
        for line in [*result.lines(), f"study: {result.folder}"]:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if result.failed:
        raise typer.Exit(1)


def attend(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run of a Perceiver.")],
    files: Annotated[list[Path], typer.Argument(help="Files of the kind that it was trained on.")],
    output: Annotated[Path | None, typer.Option(help="Folder of the drawings.", show_default="RUN/attention")] = None,
    latents: Annotated[int, typer.Option(help="How many are drawn alone, evenly chosen.", min=1)] = 4,
    invert: Annotated[bool, typer.Option("--invert", help="For dark ink on white.")] = False,
):
    """Draw what the latents look at: attention maps of each cross-attend over a picture, a sound, frames or a cloud."""
    with library("inspection") as inspection:
        for path in inspection.attend(run, files, output=output, latents=latents, invert=invert):
            table_console().print(str(path), markup=False, highlight=False, soft_wrap=True)
