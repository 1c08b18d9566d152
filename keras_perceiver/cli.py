"""The `keras-perceiver` command: every verb is one call into the library with the same names."""

import json
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
    AUGMENTATION_OPTIONS,
    MODEL_OPTIONS,
    SOURCE_OPTIONS,
    TRAINING_OPTIONS,
    AsJson,
    AudioInput,
    ClipSeconds,
    ColorJitter,
    CropMinArea,
    Data,
    DataDir,
    FadeShare,
    FlipRate,
    FrameRate,
    FrameSize,
    FrequencyMasks,
    ImageSize,
    JitterStd,
    MelBins,
    Modality,
    NumFrames,
    NumPoints,
    PermutePixels,
    RandAugmentLayers,
    RotationAxis,
    SampleRate,
    Strict,
    TimeMasks,
    TrimThreshold,
    chosen,
    library,
    preprocess_settings,
    stopping,
    table_console,
    training_strategy,
)
from keras_perceiver.cli_studies import attend, study

app = typer.Typer(
    name="keras-perceiver",
    help="Train, evaluate, export and ask Perceivers: one network for any modality.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # paragraphs of a docstring flow
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.command()
def train(
    data: Data,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run.", show_default="runs/<name>-seed<seed>")
    ] = None,
    shelf: Annotated[Path, typer.Option(help="Folder for the SavedModel: `<shelf>/<name>/<version>/`.")] = Path(
        "saved_models"
    ),
    seed: Annotated[
        int, typer.Option(help="Of initial weights, data order and augmentation.", min=0, max=2**32 - 1)
    ] = 0,
    modality: Modality = None,
    data_dir: DataDir = None,
    image_size: ImageSize = None,
    permute_pixels: PermutePixels = None,
    sample_rate: SampleRate = None,
    clip_seconds: ClipSeconds = None,
    frame_size: FrameSize = None,
    num_frames: NumFrames = None,
    frame_rate: FrameRate = None,
    num_points: NumPoints = None,
    audio_input: AudioInput = None,
    num_mel_bins: MelBins = None,
    trim_threshold: TrimThreshold = None,
    strict: Strict = False,
    network: Annotated[
        str,
        typer.Option(
            help="perceiver, or what it is compared with on the same budget: resnet18, resnet50, vit, transformer; for "
            "clouds of points pointnet and transformer."
        ),
    ] = "perceiver",
    preset: Annotated[
        str | None, typer.Option(help="Name of a model, see `models`.", show_default="the data set's")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="How to train: imagenet, audioset, modelnet40, ..", show_default="the data set's"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training examples.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="At the top of the schedule.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw, or lamb as in the paper.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Of the learning rate: cosine, flat_cosine, step or constant.")
    ] = None,
    ema_momentum: Annotated[
        float | None, typer.Option(help="Of an average of the weights, which is kept.", show_default="none")
    ] = None,
    jit_compile: Annotated[bool | None, typer.Option("--jit/--no-jit", help="Compile the step with XLA.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="Of products: float32, bfloat16, or float16 with a scaled loss.", show_default="float32"),
    ] = None,
    gradient_accumulation_steps: Annotated[
        int | None, typer.Option(help="Steps for one update of the weights.", show_default="1")
    ] = None,
    steps_per_execution: Annotated[
        int | None, typer.Option(help="Steps between two looks at the figures.", show_default="1")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Epochs without a better one that end a run.", show_default="none")
    ] = None,
    keep: Annotated[
        str | None, typer.Option(help="The last epoch, or the best on validation.", show_default="last")
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="Begin from the weights of this run or .keras file, where they fit.")
    ] = None,
    freeze: Annotated[
        list[str] | None, typer.Option(help="Layers that are not trained, such as 'cross_attention_*'.")
    ] = None,
    checkpoint_steps: Annotated[
        int | None, typer.Option(help="Steps between two checkpoints.", show_default="none: by time")
    ] = None,
    checkpoint_minutes: Annotated[
        float | None, typer.Option(help="Minutes between two checkpoints.", show_default="at most 2 % of the time")
    ] = None,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Write figures, gradient norms, graph and attention for TensorBoard."),
    ] = False,
    distribute: Annotated[
        str | None,
        typer.Option(help="mirrored: over the devices of this machine; multiworker: over processes and machines."),
    ] = None,
    worker_addresses: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of each worker, with commas between; the first is the chief.", show_default="TF_CONFIG"
        ),
    ] = None,
    worker_index: Annotated[
        int | None, typer.Option(help="Which of them this process is, from 0.", show_default="TF_CONFIG")
    ] = None,
    worker_timeout: Annotated[float, typer.Option(help="Seconds to wait for the others.")] = 300.0,
    data_service: Annotated[
        str | None, typer.Option(help="HOST:PORT of a `data-service` that makes batches ready.", show_default="none")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Take ten steps, say what the run would cost, write nothing.")
    ] = False,
    crop_min_area: CropMinArea = None,
    flip_rate: FlipRate = None,
    rand_augment_layers: RandAugmentLayers = None,
    color_jitter: ColorJitter = None,
    rotation_axis: RotationAxis = None,
    jitter_std: JitterStd = None,
    fade_share: FadeShare = None,
    time_masks: TimeMasks = None,
    frequency_masks: FrequencyMasks = None,
    rand_augment_magnitude: Annotated[float | None, typer.Option(help="Of each, from 0 to 10.")] = None,
    mix_up: Annotated[float | None, typer.Option(help="Strength of MixUp.")] = None,
    cut_mix: Annotated[float | None, typer.Option(help="Strength of CutMix, from 0 to 1.")] = None,
    patch_size: Annotated[int | None, typer.Option(help="Joins patches of pixels to one byte.")] = None,
    stem: Annotated[str | None, typer.Option(help="conv: a small convolution in front.")] = None,
    num_stem_layers: Annotated[int | None, typer.Option(help="Convolutions of the stem; each halves the axes.")] = None,
    positions: Annotated[str | None, typer.Option(help="fourier, learned or none.")] = None,
    num_bands: Annotated[int | None, typer.Option(help="Fourier bands per axis.")] = None,
    permute_bytes: Annotated[
        int | None, typer.Option(help="Seed of one permutation of all bytes, each with its position.", min=0)
    ] = None,
    width: Annotated[int | None, typer.Option(help="Channels of a network that is compared with.")] = None,
    num_latents: Annotated[int | None, typer.Option(help="Rows of the latent array.")] = None,
    latent_dim: Annotated[int | None, typer.Option(help="Channels of the latent array.")] = None,
    num_blocks: Annotated[int | None, typer.Option(help="How often the latent Transformer is applied.")] = None,
    num_cross_attends: Annotated[int | None, typer.Option(help="Cross-attends; must divide the blocks.")] = None,
    num_self_attention_layers: Annotated[int | None, typer.Option(help="Of one latent Transformer.")] = None,
    num_self_attention_heads: Annotated[
        int | None, typer.Option(help="Must divide the channels of the latent array.")
    ] = None,
):
    """Train on a data set, evaluate on its test split, export the model.

    Leaves a run folder (model.keras, config.json, history.csv and .jsonl, metrics.json, curves.png,
    confusion_matrix.png) and a SavedModel. What is not given comes from the data set's preset. The same command
    goes on with a run that was interrupted, and ends as if it had not been. Ctrl-C and SIGTERM leave a checkpoint and
    end with code 75.

    A folder holds `<class>/<file>`, `<split>/<class>/<file>` (train, validation, test) or a `labels.csv` with the
    columns file, label and, if need be, split. Splits that the data do not bring are made, and written down in the run.
    """
    options = locals()
    with library("training") as training, stopping(training):
        strategy = training_strategy(training, distribute, worker_addresses, worker_index, worker_timeout)
        training.train(
            data,
            output=output,
            shelf=shelf,
            seed=seed,
            source=chosen(options, SOURCE_OPTIONS),
            preprocess=preprocess_settings(permute_pixels, audio_input, num_mel_bins, trim_threshold),
            network=network,
            preset=preset,
            base_recipe=recipe,
            model={**chosen(options, MODEL_OPTIONS), "permute_seed": permute_bytes},
            recipe=chosen(options, (*TRAINING_OPTIONS, *AUGMENTATION_OPTIONS)),
            init=init,
            frozen=freeze or (),
            checkpoint_steps=checkpoint_steps,
            checkpoint_minutes=checkpoint_minutes,
            tensorboard=tensorboard,
            dry_run=dry_run,
            strategy=strategy,
            data_service=data_service,
            console=table_console(),
        )


@app.command()
def inspect(
    data: Data,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the sheet.", show_default="inspections/<name>")
    ] = None,
    modality: Modality = None,
    data_dir: DataDir = None,
    image_size: ImageSize = None,
    permute_pixels: PermutePixels = None,
    sample_rate: SampleRate = None,
    clip_seconds: ClipSeconds = None,
    frame_size: FrameSize = None,
    num_frames: NumFrames = None,
    frame_rate: FrameRate = None,
    num_points: NumPoints = None,
    audio_input: AudioInput = None,
    num_mel_bins: MelBins = None,
    trim_threshold: TrimThreshold = None,
    strict: Strict = False,
    crop_min_area: CropMinArea = None,
    flip_rate: FlipRate = None,
    rand_augment_layers: RandAugmentLayers = None,
    color_jitter: ColorJitter = None,
    rotation_axis: RotationAxis = None,
    jitter_std: JitterStd = None,
    fade_share: FadeShare = None,
    time_masks: TimeMasks = None,
    frequency_masks: FrequencyMasks = None,
    as_json: AsJson = False,
):
    """Look at a data set before a model does.

    Counts per class and split, sizes, ranges, duplicates and broken files; and a sheet of examples as they enter the
    model, before and after augmentation.
    """
    options = locals()
    console = table_console()
    with library("inspection") as inspection:
        found = inspection.inspect_data(
            data,
            output=output,
            source=chosen(options, SOURCE_OPTIONS),
            preprocess=preprocess_settings(permute_pixels, audio_input, num_mel_bins, trim_threshold),
            recipe=chosen(options, AUGMENTATION_OPTIONS),
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
    """Ask an exported model about files."""
    connection = {"version": server_version, "timeout": timeout, "certificates": certificates}
    with library("export") as export:
        predictions = export.predict(saved_model, files, top=top, invert=invert, server=server, **given(connection))
    if as_json:
        print(json.dumps([asdict(p) for p in predictions], indent=2))
        return
    table = Table("file", "class", "probability")
    for prediction in predictions:
        for i, (name, p) in enumerate(zip(prediction.classes, prediction.probabilities, strict=True)):
            table.add_row(Text(printable(prediction.file if i == 0 else "")), Text(printable(name)), f"{p:.2%}")
    table_console().print(table)


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
