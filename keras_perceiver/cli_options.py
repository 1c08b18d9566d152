"""What the verbs of the `keras-perceiver` command share: options, and the way into the library."""

import importlib
import inspect
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console

from keras_perceiver._checks import InputError, printable, require

TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: a run was stopped, and the same command goes on

Data = Annotated[
    str, typer.Argument(help="'digits', tfds:NAME, a folder (`<class>/<file>`, or with a labels.csv), or an .npz file.")
]
# Options that several verbs share, by where they go; each has there the name that it has here.
SOURCE = {
    "modality": Annotated[str | None, typer.Option(help="What the files are.", show_default="recognised")],
    "data_dir": Annotated[Path | None, typer.Option(help="Folder of tensorflow-datasets.")],
    "image_size": Annotated[
        int | None, typer.Option(help="Pixels each way that pictures are resized to.", show_default="their own, or 64")
    ],
    "sample_rate": Annotated[
        int | None, typer.Option(help="Samples a second of sounds.", show_default="their own, or 16,000")
    ],
    "clip_seconds": Annotated[
        float | None, typer.Option(help="Window of sounds, in seconds.", show_default="holds 95 % of them, at most 10")
    ],
    "frame_size": Annotated[
        int | None, typer.Option(help="Pixels each way that frames are resized to.", show_default="their own, or 64")
    ],
    "num_frames": Annotated[
        int | None, typer.Option(help="Frames of a film, evenly spread over it.", show_default="16")
    ],
    "frame_rate": Annotated[
        float | None,
        typer.Option(
            help="Frames a second of a film, in windows of `--num-frames`.", show_default="frames spread over it"
        ),
    ],
    "num_points": Annotated[
        int | None, typer.Option(help="Points of a cloud, at most.", show_default="those of the largest, at most 2,048")
    ],
    "strict": Annotated[bool, typer.Option("--strict", help="Whatever would be skipped is an error.")],
}
SOUND_INPUT = {
    "audio_input": Annotated[str | None, typer.Option(help="log_mel or raw samples.", show_default="log_mel")],
    "num_mel_bins": Annotated[int | None, typer.Option(help="Bins of the mel scale.", show_default="64")],
}
PREPROCESS = {
    **SOUND_INPUT,
    "trim_threshold": Annotated[
        float | None,
        typer.Option(
            help="Sounds: what is not louder at their ends is cut off; 1 is the loudest.", show_default="none"
        ),
    ],
    "permute_pixels": Annotated[
        int | None, typer.Option(help="Seed of one permutation of all pixels: no neighbours are left.", min=0)
    ],
}
AUGMENTATION = {
    "crop_min_area": Annotated[float | None, typer.Option(help="Least share of a picture that a random crop keeps.")],
    "flip_rate": Annotated[float | None, typer.Option(help="How often left becomes right.")],
    "rand_augment_layers": Annotated[int | None, typer.Option(help="Operations of RandAugment.", min=0)],
    "color_jitter": Annotated[float | None, typer.Option(help="Films: strength of other colours, from 0 to 1.")],
    "rotation_axis": Annotated[str | None, typer.Option(help="Clouds: x, y or z, about which they are turned.")],
    "jitter_std": Annotated[
        float | None, typer.Option(help="Clouds: noise of coordinates, in parts of the cloud's size.")
    ],
    "point_dropout": Annotated[float | None, typer.Option(help="Clouds: largest share of points that is hidden.")],
    "fade_share": Annotated[
        float | None, typer.Option(help="Sounds: longest fade at either end, as a share of the window.")
    ],
    "time_masks": Annotated[int | None, typer.Option(help="SpecAugment: stretches of time that are hidden.", min=0)],
    "frequency_masks": Annotated[int | None, typer.Option(help="SpecAugment: bands that are hidden.", min=0)],
}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def with_options(*groups):
    """Gives a verb the options of these groups, behind its own: it takes them by name, in `**options`.

    What is not asked for on the command line is None, or False.
    """
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_not_asked(kind), annotation=kind)
        for group in groups
        for name, kind in group.items()
    ]

    def decorate(verb):
        signature = inspect.signature(verb)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        verb.__signature__ = signature.replace(parameters=[*own, *shared])
        return verb

    return decorate


def _not_asked(kind):
    return False if get_args(kind)[0] is bool else None


def chosen(options, group):
    """Those of a verb's options that belong to a group."""
    return {name: options[name] for name in group}


def preprocess_settings(options):
    """Settings of what stands before the model, from those of a verb's options that are of `PREPROCESS`."""
    settings = {name: options[name] for name in PREPROCESS if name in options}
    return {"permute_seed" if name == "permute_pixels" else name: value for name, value in settings.items()}


def table_console(stderr=False):
    """A console as wide as the terminal; wide enough for every table where the output goes to a file."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(width=120, stderr=stderr)


def training_strategy(training, distribute, worker_addresses, worker_index, worker_timeout):
    """The strategy that the options of a verb ask for; None for none."""
    given = {"worker_addresses": worker_addresses, "worker_index": worker_index}
    if distribute is None:
        chosen = {name: value for name, value in given.items() if value is not None}
        require(not chosen, "Workers must be named for `--distribute multiworker` alone", **chosen)
        return None
    addresses = None if worker_addresses is None else worker_addresses.split(",")
    return training.build_strategy(
        distribute, worker_addresses=addresses, worker_index=worker_index, worker_timeout=worker_timeout
    )


@contextmanager
def library(part):
    """Imports one part of the library when a verb needs it; its `InputError` ends with one message and code 2."""
    try:
        yield importlib.import_module(f"keras_perceiver.{part}")
    except InputError as error:
        print(f"keras-perceiver: {printable(str(error))}", file=sys.stderr)
        raise typer.Exit(2) from error


@contextmanager
def stopping(part):
    """Where Ctrl-C or SIGTERM has stopped a run of this part of the library: one message and code 75."""
    try:
        yield
    except part.Stopped as stopped:
        print(f"keras-perceiver: {stopped}", file=sys.stderr)
        raise typer.Exit(TRY_AGAIN) from stopped
