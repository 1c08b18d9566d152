"""What the verbs of the `keras-perceiver` command share: options, and the way into the library."""

import importlib
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from keras_perceiver._checks import InputError, printable, require

TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: a run was stopped, and the same command goes on

Data = Annotated[
    str, typer.Argument(help="'digits', tfds:NAME, a folder (`<class>/<file>`, or with a labels.csv), or an .npz file.")
]
Modality = Annotated[str | None, typer.Option(help="What the files are.", show_default="recognised")]
DataDir = Annotated[Path | None, typer.Option(help="Folder of tensorflow-datasets.")]
ImageSize = Annotated[
    int | None, typer.Option(help="Pixels each way that pictures are resized to.", show_default="their own, or 64")
]
SampleRate = Annotated[
    int | None, typer.Option(help="Samples a second of sounds.", show_default="their own, or 16,000")
]
ClipSeconds = Annotated[
    float | None, typer.Option(help="Window of sounds, in seconds.", show_default="holds 95 % of them, at most 10")
]
FrameSize = Annotated[
    int | None,
    typer.Option(help="Pixels each way that frames are resized to.", show_default="their own, or 64"),
]
NumFrames = Annotated[int | None, typer.Option(help="Frames of a film, evenly spread over it.", show_default="16")]
FrameRate = Annotated[
    int | None,
    typer.Option(help="Frames a second of a film, in windows of `--num-frames`.", show_default="frames spread over it"),
]
NumPoints = Annotated[
    int | None, typer.Option(help="Points of a cloud, at most.", show_default="those of the largest, at most 2,048")
]
ColorJitter = Annotated[float | None, typer.Option(help="Films: strength of other colours, from 0 to 1.")]
RotationAxis = Annotated[str | None, typer.Option(help="Clouds: x, y or z, about which they are turned.")]
JitterStd = Annotated[float | None, typer.Option(help="Clouds: noise of coordinates, in parts of the cloud's size.")]
AudioInput = Annotated[str | None, typer.Option(help="log_mel or raw samples.", show_default="log_mel")]
MelBins = Annotated[int | None, typer.Option(help="Bins of the mel scale.", show_default="64")]
TrimThreshold = Annotated[
    float | None,
    typer.Option(help="Sounds: what is not louder at their ends is cut off; 1 is the loudest.", show_default="none"),
]
FadeShare = Annotated[float | None, typer.Option(help="Sounds: longest fade at either end, as a share of the window.")]
TimeMasks = Annotated[int | None, typer.Option(help="SpecAugment: stretches of time that are hidden.", min=0)]
FrequencyMasks = Annotated[int | None, typer.Option(help="SpecAugment: bands that are hidden.", min=0)]
PermutePixels = Annotated[
    int | None, typer.Option(help="Seed of one permutation of all pixels: no neighbours are left.", min=0)
]
Strict = Annotated[bool, typer.Option("--strict", help="Whatever would be skipped is an error.")]
CropMinArea = Annotated[float | None, typer.Option(help="Least share of a picture that a random crop keeps.")]
FlipRate = Annotated[float | None, typer.Option(help="How often left becomes right.")]
RandAugmentLayers = Annotated[int | None, typer.Option(help="Operations of RandAugment.", min=0)]
# Options by where they go; each has there the name that it has here.
SOURCE_OPTIONS = (
    "modality",
    "data_dir",
    "image_size",
    "sample_rate",
    "clip_seconds",
    "frame_size",
    "num_frames",
    "frame_rate",
    "num_points",
    "strict",
)
MODEL_OPTIONS = (
    "patch_size",
    "stem",
    "num_stem_layers",
    "positions",
    "num_bands",
    "width",
    "num_latents",
    "latent_dim",
    "num_blocks",
    "num_cross_attends",
    "num_self_attention_layers",
    "num_self_attention_heads",
)
TRAINING_OPTIONS = (
    "epochs",
    "batch_size",
    "learning_rate",
    "optimizer",
    "schedule",
    "ema_momentum",
    "jit_compile",
    "precision",
    "gradient_accumulation_steps",
    "steps_per_execution",
    "patience",
    "keep",
    "rand_augment_magnitude",
    "mix_up",
    "cut_mix",
)
AUGMENTATION_OPTIONS = (
    "crop_min_area",
    "flip_rate",
    "rand_augment_layers",
    "color_jitter",
    "rotation_axis",
    "jitter_std",
    "fade_share",
    "time_masks",
    "frequency_masks",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def chosen(options, names):
    """Those of a verb's options that have these names."""
    return {name: options[name] for name in names}


def preprocess_settings(permute_pixels, audio_input, num_mel_bins, trim_threshold):
    """Settings of what stands before the model."""
    return {
        "permute_seed": permute_pixels,
        "audio_input": audio_input,
        "num_mel_bins": num_mel_bins,
        "trim_threshold": trim_threshold,
    }


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
