"""The verb that trains."""

from pathlib import Path
from typing import Annotated

import typer

from keras_perceiver.cli_options import (
    AUGMENTATION,
    PREPROCESS,
    SOURCE,
    Data,
    chosen,
    library,
    preprocess_settings,
    stopping,
    table_console,
    training_strategy,
    with_options,
)

# Options of this verb alone that go where the others of their kind go, under their names.
TRAINING = {
    "epochs": Annotated[int | None, typer.Option(help="Passes over the training examples.")],
    "batch_size": Annotated[int | None, typer.Option(help="Examples per step.")],
    "learning_rate": Annotated[float | None, typer.Option(help="At the top of the schedule.")],
    "optimizer": Annotated[str | None, typer.Option(help="adamw, or lamb as in the paper.")],
    "schedule": Annotated[
        str | None, typer.Option(help="Of the learning rate: cosine, flat_cosine, step or constant.")
    ],
    "ema_momentum": Annotated[
        float | None, typer.Option(help="Of an average of the weights, which is kept.", show_default="none")
    ],
    "jit_compile": Annotated[bool | None, typer.Option("--jit/--no-jit", help="Compile the step with XLA.")],
    "precision": Annotated[
        str | None,
        typer.Option(help="Of products: float32, bfloat16, or float16 with a scaled loss.", show_default="float32"),
    ],
    "gradient_accumulation_steps": Annotated[
        int | None, typer.Option(help="Steps for one update of the weights.", show_default="1")
    ],
    "steps_per_execution": Annotated[
        int | None, typer.Option(help="Steps between two looks at the figures.", show_default="1")
    ],
    "patience": Annotated[
        int | None, typer.Option(help="Epochs without a better one that end a run.", show_default="none")
    ],
    "keep": Annotated[str | None, typer.Option(help="The last epoch, or the best on validation.", show_default="last")],
    "rand_augment_magnitude": Annotated[float | None, typer.Option(help="Of each, from 0 to 10.")],
    "mix_up": Annotated[float | None, typer.Option(help="Strength of MixUp.")],
    "cut_mix": Annotated[float | None, typer.Option(help="Strength of CutMix, from 0 to 1.")],
}
MODEL = {
    "patch_size": Annotated[int | None, typer.Option(help="Joins patches of pixels to one byte.")],
    "stem": Annotated[str | None, typer.Option(help="conv: a small convolution in front.")],
    "num_stem_layers": Annotated[int | None, typer.Option(help="Convolutions of the stem; each halves the axes.")],
    "positions": Annotated[str | None, typer.Option(help="fourier, learned or none.")],
    "num_bands": Annotated[int | None, typer.Option(help="Fourier bands per axis; 0 of other networks for none.")],
    "permute_seed": Annotated[
        int | None,
        typer.Option("--permute-bytes", help="Seed of one permutation of all bytes, each with its position.", min=0),
    ],
    "width": Annotated[int | None, typer.Option(help="Channels of a network that is compared with.")],
    "num_latents": Annotated[int | None, typer.Option(help="Rows of the latent array.")],
    "latent_dim": Annotated[int | None, typer.Option(help="Channels of the latent array.")],
    "num_blocks": Annotated[int | None, typer.Option(help="How often the latent Transformer is applied.")],
    "num_cross_attends": Annotated[int | None, typer.Option(help="Cross-attends; must divide the blocks.")],
    "num_self_attention_layers": Annotated[int | None, typer.Option(help="Of one latent Transformer.")],
    "num_self_attention_heads": Annotated[
        int | None, typer.Option(help="Must divide the channels of the latent array.")
    ],
}


@with_options(SOURCE, PREPROCESS, TRAINING, AUGMENTATION, MODEL)
def train(
    data: Data,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run.", show_default="runs/<name>-seed<seed>")
    ] = None,
    shelf: Annotated[Path, typer.Option(help="Folder for the SavedModel: `<shelf>/<name>/<version>/`.")] = Path(
        "saved_models"
    ),
    config: Annotated[
        Path | None,
        typer.Option(
            help="JSON of arguments, such as a search's best.json; options stand above it.", show_default="none"
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of initial weights, data order and augmentation.", min=0, max=2**32 - 1)
    ] = 0,
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
    **options,
):
    """Train on a data set, evaluate on its test split, export the model.

    Leaves a run folder (model.keras, config.json, history.csv and .jsonl, metrics.json, curves.png,
    confusion_matrix.png) and a SavedModel. What is not given comes from the data set's preset. The same command
    goes on with a run that was interrupted, and ends as if it had not been. Ctrl-C and SIGTERM leave a checkpoint and
    end with code 75.

    A folder holds `<class>/<file>`, `<split>/<class>/<file>` (train, validation, test) or a `labels.csv` with the
    columns file, label and, if need be, split. Splits that the data do not bring are made, and written down in the run.
    """
    with library("training") as training, stopping(training):
        strategy = training_strategy(training, distribute, worker_addresses, worker_index, worker_timeout)
        settings = {
            "source": chosen(options, SOURCE),
            "preprocess": preprocess_settings(options),
            "preset": preset,
            "base_recipe": recipe,
            "model": chosen(options, MODEL),
            "recipe": chosen(options, (*TRAINING, *AUGMENTATION)),
        }
        training.train(
            data,
            output=output,
            shelf=shelf,
            seed=seed,
            network=network,
            **(settings if config is None else training.with_settings(config, settings)),
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
