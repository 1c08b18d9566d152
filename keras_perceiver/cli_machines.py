"""Verbs of the `keras-perceiver` command for several processes and machines."""

import time
from typing import Annotated

import typer

from keras_perceiver.cli_options import library, table_console


def launch(
    context: typer.Context,
    workers: Annotated[int, typer.Option(help="How many processes.", min=1)] = 2,
):
    """Run a command as several workers on this machine: `launch --workers 2 train digits --distribute multiworker`.

    They find each other on the loopback interface. Ctrl-C and SIGTERM are handed to all; where one fails, all end.
    """
    with library("training") as training:
        code = training.launch(context.args, num_workers=workers)
    raise typer.Exit(code)


def data_service(
    port: Annotated[int, typer.Option(help="Where it listens; 0 for a free port.", min=0, max=65535)] = 5050,
    host: Annotated[str, typer.Option(help="Name by which those who train find this machine.")] = "127.0.0.1",
    worker_port: Annotated[int, typer.Option(help="Its second port.", min=0, max=65535, show_default="a free one")] = 0,
):
    """Make batches ready for `train --data-service HOST:PORT`, until Ctrl-C.

    Pictures are read here: their folder must have the same path on both machines.
    """
    with (
        library("data.service") as service,
        library("training.stopping") as stopping,
        service.running_service(port, host, worker_port) as address,
        stopping.StopRequest() as stop,
    ):
        table_console().print(f"data service at {address}")
        while not stop.name:
            time.sleep(0.2)
