"""The main job: data -> a trained, evaluated and exported model in a run folder."""

import dataclasses
import shutil
import time

import keras
from rich.console import Console

from keras_perceiver._checks import require_folder
from keras_perceiver.data import evaluation_dataset, load_source, normalize_pixels, training_dataset
from keras_perceiver.data.images import augment_image
from keras_perceiver.data.pipeline import steps_per_epoch
from keras_perceiver.export import export_saved_model
from keras_perceiver.models import PRESETS, build_classifier
from keras_perceiver.training.evaluate import evaluate_model
from keras_perceiver.training.plots import plot_confusion_matrix, plot_curves
from keras_perceiver.training.progress import History, ProgressBar
from keras_perceiver.training.recipes import RECIPES
from keras_perceiver.training.resume import Checkpoints
from keras_perceiver.training.runs import Run


def train(
    data,
    *,
    output=None,
    shelf="saved_models",
    seed=0,
    model=None,
    recipe=None,
    callbacks=(),
    checkpoint_seconds=15.0,
    console=None,
):
    """Trains a Perceiver on a data set, evaluates it on the test split and exports it.

    The run leaves what `Run` describes in its folder, and a SavedModel on the shelf. The same call
    with the same folder goes on with a run that was killed.

    Args:
        data: name of the data set, see `load_source`.
        output: the run folder; None for `runs/<data>-seed<seed>`.
        shelf: the folder where the SavedModel is put as `<data>/<version>/`.
        seed: of initial weights, order of the data and augmentation.
        model: dictionary of arguments of `build_classifier` in place of the preset's.
        recipe: dictionary of attributes of `Recipe` in place of the preset's.
        callbacks: Keras callbacks beside the run's own.
        checkpoint_seconds: least time between two checkpoints, which are taken at the end of an epoch.
        console: `rich.console.Console` that shows what happens; None for a new one.

    Returns:
        The metrics on the test split, see `classification_metrics`, with `export`: the SavedModel.

    Raises:
        InputError: where the data are unknown, arguments are illegal or contradict each other, or the
            folder holds another run; before anything is written.
    """
    console = console or Console()
    began = time.monotonic()
    source = load_source(data)
    config = configuration(source, seed, model or {}, recipe or {})
    recipe = RECIPES[source.name].replaced(**(recipe or {}))
    keras.utils.set_random_seed(seed)
    network = build_classifier(**config["model"], name=f"{source.name}_perceiver")
    steps = steps_per_epoch(source.splits["train"], recipe.batch_size)
    require_folder(shelf=shelf)
    run = Run(output or f"runs/{source.name}-seed{seed}")
    resumed = run.claim(config)

    sizes = ", ".join(f"{len(split):,} {name}" for name, split in source.splits.items())
    console.print(f"{source.name}: {sizes} examples; a Perceiver of {network.count_params():,} parameters")
    recipe.compile(network, steps)
    rows = []
    checkpoints = Checkpoints(run.checkpoint_folder, rows, checkpoint_seconds)
    done = checkpoints.restore(network) if resumed else 0
    if done:
        console.print(f"going on after epoch {done} of {recipe.epochs}")
    fit(
        network,
        source,
        recipe,
        seed,
        first_epoch=done,
        callbacks=[History(rows, run.write_history), checkpoints, ProgressBar(console, recipe.epochs), *callbacks],
    )
    network.save(run.model_path)

    metrics = evaluate_model(network, source)
    plot_curves(rows, run.folder / "curves.png")
    plot_confusion_matrix(
        metrics["confusion_matrix"], source.class_names, metrics["accuracy"], run.folder / "confusion_matrix.png"
    )
    metrics["export"] = str(export_saved_model(network, source.name, source.class_names, shelf=shelf))
    metrics["seconds"] = round(time.monotonic() - began, 1)
    run.write_json("metrics.json", metrics)
    shutil.rmtree(run.checkpoint_folder, ignore_errors=True)
    console.print(f"test accuracy {metrics['accuracy']:.2%} after {metrics['seconds']:.0f} s")
    console.print(f"run: {run.folder}", soft_wrap=True)
    console.print(f"SavedModel: {metrics['export']}", soft_wrap=True)
    return metrics


def configuration(source, seed, model_overrides, recipe_overrides):
    """Everything that a run is known by, as JSON holds it: data, model, training and seed."""
    arguments = {**PRESETS[source.name], **{k: v for k, v in model_overrides.items() if v is not None}}
    recipe = RECIPES[source.name].replaced(**recipe_overrides)
    return {
        "data": source.name,
        "model": arguments,
        "training": dataclasses.asdict(recipe),
        "seed": seed,
    }


def fit(network, source, recipe, seed, *, first_epoch=0, callbacks=()):
    """Trains a compiled classifier on the train split of `source`, with its validation split beside."""
    split = source.splits["train"]
    common = {"num_classes": len(source.class_names), "preprocess": normalize_pixels}
    network.fit(
        training_dataset(
            split,
            batch_size=recipe.batch_size,
            seed=seed,
            num_epochs=recipe.epochs,
            first_epoch=first_epoch,
            augment=augment_image(shift_rate=recipe.shift_rate, noise_std=recipe.noise_std),
            **common,
        ),
        initial_epoch=first_epoch,
        epochs=recipe.epochs,
        steps_per_epoch=steps_per_epoch(split, recipe.batch_size),
        validation_data=evaluation_dataset(source.splits["validation"], batch_size=256, **common),
        callbacks=callbacks,
        shuffle=False,  # the data set shuffles itself
        verbose=0,
    )
