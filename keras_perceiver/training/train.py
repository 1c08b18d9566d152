"""The main job: data -> a trained, evaluated and exported model in a run folder."""

import dataclasses
import inspect
import shutil
import time

import keras
from rich.console import Console

from keras_perceiver._checks import given, nearest, require, require_folder, require_one_of
from keras_perceiver.data import MODALITIES, Source, find_modality, load_source, steps_per_epoch
from keras_perceiver.models import NETWORKS, PRESETS, build_encoder
from keras_perceiver.models.paper_presets import PAPER_PRESETS
from keras_perceiver.models.presets import modality_of, paper_options, preset_arguments
from keras_perceiver.training.best import BestEpoch
from keras_perceiver.training.board import board_callbacks
from keras_perceiver.training.divergence import StopOnNonFiniteLoss
from keras_perceiver.training.evaluate import evaluate_model
from keras_perceiver.training.exports import export_once
from keras_perceiver.training.feeding import evaluation_data, examples_of_step, file_errors, training_data
from keras_perceiver.training.initial import find_initial, freeze, take_weights
from keras_perceiver.training.memory import keep_freed_memory
from keras_perceiver.training.metrics import figure_of
from keras_perceiver.training.plan import plan_run
from keras_perceiver.training.plots import plot_confusion_matrix, plot_curves
from keras_perceiver.training.progress import History, ProgressBar
from keras_perceiver.training.recipes import PRECISIONS, RECIPES
from keras_perceiver.training.resume import START, Checkpoints, StopRequest
from keras_perceiver.training.runs import OTHER_FOLDER, Run


def train(
    data,
    *,
    output=None,
    shelf="saved_models",
    seed=0,
    source=None,
    preprocess=None,
    network="perceiver",
    preset=None,
    model=None,
    base_recipe=None,
    recipe=None,
    callbacks=(),
    init=None,
    frozen=(),
    checkpoint_steps=None,
    checkpoint_minutes=None,
    tensorboard=False,
    dry_run=False,
    console=None,
):
    """Trains a Perceiver on a data set, evaluates it on the test split and exports it.

    The run leaves what `Run` describes in its folder, and a SavedModel on the shelf. The same call with the same folder
    goes on with a run that was killed, and ends with the same weights as if it had not been, see `Checkpoints`.

    Args:
        data: name or path of the data set, see `load_source`, or a `Source`, such as `dataset_source` makes.
        output: the run folder; None for `runs/<name>-seed<seed>`, with the name of the data set; that of another
            network than the Perceiver is `<name>-<network>`.
        shelf: the folder where the SavedModel is put as `<name>/<version>/`; None for no SavedModel.
        seed: of initial weights, order of the data and augmentation.
        source: dictionary of arguments of `load_source`, such as `{"image_size": 32}`.
        preprocess: dictionary of arguments of what stands before the model, see `preprocess_images`.
        network: key of `NETWORKS`: the Perceiver, or a specialised network to compare it with.
        preset: key of `PRESETS`, a Perceiver by name; None for that of the data set or of its modality. Shape and
            classes are those of the data; pictures that have no size of their own get the preset's.
        model: dictionary of arguments of the function that builds it, in place of the preset's.
        base_recipe: key of `RECIPES`; None for that of the data set or of its modality.
        recipe: dictionary of attributes of `Recipe` in place of those.
        callbacks: Keras callbacks beside the run's own.
        init: the folder of a run, or a `.keras` file, from whose weights the model begins, see `take_weights`; None for
            new ones.
        frozen: names of layers that are not trained, see `freeze`.
        checkpoint_steps, checkpoint_minutes: steps or minutes between two checkpoints; None for as often as costs
            little, see `Checkpoints`.
        tensorboard: whether loss, figures, learning rate and gradient norms of each epoch, the graph, and what a
            Perceiver's latents look at are written for TensorBoard, into the folder `tensorboard` of the run.
        dry_run: whether nothing is trained and written but a `Plan` is printed and returned.
        console: `rich.console.Console` that shows what happens; None for a new one.

    Returns:
        The metrics on the test split, see `classification_metrics`, with `export`: the SavedModel, if any.

    Raises:
        InputError: where the data are unknown, arguments are illegal or contradict each other, the folder holds another
            run, or another process trains into it; before anything is written. Later, where a file cannot be written,
            and where the loss is not finite any more: checkpoints from before stay.
        Stopped: where the process got SIGTERM or SIGINT while it trained; there is a checkpoint.
    """
    require(isinstance(seed, int) and 0 <= seed < 2**32, "`seed` must be an integer from 0 to 4,294,967,295", seed=seed)
    require_one_of(NETWORKS, network=network)
    _check_names(network, preset, base_recipe)
    initial = None if init is None else find_initial(init)
    keep_freed_memory()
    console = console or Console()
    began = time.monotonic()
    options = given(source)
    if preset in PAPER_PRESETS:
        if not isinstance(data, Source):
            found = find_modality(data, options.get("modality"), options.get("data_dir"))
            _require_modality(preset, found or modality_of(PAPER_PRESETS[preset]["input_shape"]))
        of_data, of_model = paper_options(preset)
        options = options if isinstance(data, Source) else {**of_data, **options}
        preprocess = {**of_model, **given(preprocess)}
    source = load_source(data, console=console, **options)
    name = source.name if network == "perceiver" else f"{source.name}-{network}"
    run = Run(output or f"runs/{name}-seed{seed}")
    if run.has_begun:
        source = continued_source(source, data, run, options, console)
    config = configuration(source, seed, network, model or {}, recipe or {}, preprocess, preset, base_recipe)
    recipe = resolved_recipe(source, recipe or {}, base_recipe)
    config |= {"init": initial and initial.description(), "frozen": list(frozen)}
    keras.utils.set_random_seed(seed)
    built = NETWORKS[network](**config["model"], name=f"{source.name}_{network}", dtype=PRECISIONS[recipe.precision])
    steps = steps_per_epoch(source.splits["train"], recipe.batch_size)
    said = [] if initial is None else [take_weights(built, initial, source.class_names)]
    if frozen:
        said.append(f"frozen: {', '.join(freeze(built, frozen))}")
    recipe.compile(built, steps, multi_label=source.is_multi_label)
    if dry_run:
        _say_what_is_trained(source, network, built, recipe, said, console)
        plan = plan_run(built, source, recipe, seed, preprocess=config["preprocess"], console=console)
        for line in plan.lines():
            console.print(line, highlight=False, soft_wrap=True)
        return plan
    rows, stop = [], StopRequest()
    best = BestEpoch(run.checkpoint_folder / "best", rows, keep=recipe.keep == "best", patience=recipe.patience)
    checkpoints = Checkpoints(
        run.checkpoint_folder,
        rows,
        every_steps=checkpoint_steps,
        every_minutes=checkpoint_minutes,
        stop=stop,
        console=console,
    )
    if shelf is not None:
        require_folder(shelf=shelf)
    with run.locked():
        run.claim(config)
        run.write_data(source)
        _say_what_is_trained(source, network, built, recipe, said, console)
        position = checkpoints.restore(built)
        if position > (0, 0):
            console.print(f"going on {position} of {recipe.epochs}")
        with stop:
            fit(
                built,
                source,
                recipe.replaced(epochs=position.epoch) if best.is_over else recipe,
                seed,
                preprocess=config["preprocess"],
                position=position,
                console=console,
                callbacks=[
                    History(rows, run.write_history),
                    best,
                    checkpoints,
                    ProgressBar(console, recipe.epochs, recipe.batch_size),
                    *(board_callbacks(run.folder / "tensorboard", source, config, recipe) if tensorboard else []),
                    *callbacks,
                ],
            )
        if recipe.keep == "best":
            console.print(f"kept: epoch {best.restore(built)}, the best on validation")
        if frozen:
            # A file does not say which inner layers are frozen: with an optimiser of some it could not be loaded.
            built.trainable = True
            recipe.compile(built, steps, multi_label=source.is_multi_label)
        run.save_model(built)
        metrics = evaluate_model(built, source, preprocess=config["preprocess"])
        _draw(run, rows, metrics, source)
        if shelf is not None:
            metrics["export"] = str(export_once(run, built, source, config, metrics, shelf=shelf))
        metrics["seconds"] = round(time.monotonic() - began, 1)
        run.write_json("metrics.json", metrics)
        shutil.rmtree(run.checkpoint_folder, ignore_errors=True)
    console.print(f"test {figure_of(metrics)} after {metrics['seconds']:.0f} s")
    console.print(f"run: {run.folder}", soft_wrap=True)
    if shelf is not None:
        console.print(f"SavedModel: {metrics['export']}", soft_wrap=True)
    return metrics


def _say_what_is_trained(source, network, built, recipe, said, console):
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in source.splits.items())
    console.print(f"{source.name}: {sizes} examples; a {network} of {built.count_params():,} parameters")
    for line in [*said, *source.report.lines()]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if recipe.epochs < recipe.crop_from_epochs:
        console.print(
            f"pictures are seen {recipe.epochs} times each and are not cropped, unless `crop_min_area` asks for it"
        )


def _draw(run, rows, metrics, source):
    """The pictures of a run."""
    plot_curves(rows, run.folder / "curves.png")
    if not source.is_multi_label:
        plot_confusion_matrix(
            metrics["confusion_matrix"], source.class_names, metrics["accuracy"], run.folder / "confusion_matrix.png"
        )


def continued_source(source, data, run, options, console):
    """The data of a run that goes on, in its splits and its shape whatever files were added; `source` is without."""
    run.require_same({"data": source.data}, OTHER_FOLDER)
    splits, description = run.splits(), run.config()["source"]
    is_same = splits in (None, source.made_splits) and list(source.example_shape) == description["shape"]
    if source is not data and not is_same:
        chosen = {"shape", *MODALITIES[source.modality].options}
        shape = {} if chosen & options.keys() else {"shape": description["shape"]}
        source = load_source(data, console=console, splits=splits, **shape, **options)
    require(
        splits in (None, source.made_splits),
        f"The data must be in the splits of the run in {str(run.folder)!r}",
        repair=f"Make the `Source` as it was made then, with the same `seed`. {OTHER_FOLDER}",
    )
    return source


def configuration(
    source, seed, network, model_overrides, recipe_overrides, preprocess=None, preset=None, base_recipe=None
):
    """Everything that a run is known by, as JSON holds it: data, model, training and seed."""
    kind = MODALITIES[source.modality]
    before = given(preprocess)
    unknown = sorted(set(before) - set(kind.settings))
    require(not unknown, f"These settings are not for data of the modality {kind.name!r}", preprocess=unknown)
    return {
        "data": source.data,
        "source": source.description(),
        "preprocess": before,
        "network": network,
        "model": {
            **_model_arguments(source, network, preset, model_overrides),
            "input_shape": kind.input_shape(source.example_shape, **before),
            "num_classes": len(source.class_names),
        },
        "training": dataclasses.asdict(resolved_recipe(source, recipe_overrides, base_recipe)),
        "seed": seed,
    }


def _check_names(network, preset, base_recipe):
    """Requires names that are known, and a preset for no other network than the Perceiver."""
    if preset is not None:
        require_one_of(PRESETS, preset=preset)
        require(network == "perceiver", "`preset` must not be given for another network", network=network)
    if base_recipe is not None:
        require_one_of(RECIPES, recipe=base_recipe)


def _require_modality(preset, modality):
    takes = modality_of(PRESETS[preset]["input_shape"])
    require(
        takes == modality,
        "`preset` must be a model for the modality of the data",
        preset=preset,
        takes=takes,
        data=modality,
    )


def _model_arguments(source, network, preset, overrides):
    """The preset's arguments with those that are given; the specialised networks have none of the Perceiver's."""
    chosen = given(overrides)
    known = inspect.signature(build_encoder if network == "perceiver" else NETWORKS[network]).parameters
    known = sorted(known.keys() - {"input_shape", "num_classes", "name", "dtype"})
    unknown = sorted(chosen.keys() - set(known))
    require(
        not unknown,
        "The network must know what is chosen for its model",
        network=network,
        unknown=unknown,
        repair=(nearest(unknown[0], known) if unknown else "") or f"It knows {', '.join(known)}.",
    )
    if network != "perceiver":
        return chosen
    _require_modality(preset or source.preset, source.modality)
    # Whether examples come with a mask is a fact of the data.
    with_mask = {"padding_mask": PRESETS[source.modality].get("padding_mask", False)}
    return {**preset_arguments(preset or source.preset, chosen), **with_mask}


def resolved_recipe(source, overrides, base=None):
    """The recipe of that name, of the data set, or of its modality, for so many examples."""
    return RECIPES[base or source.preset].resolved(len(source.splits["train"]), **overrides)


def fit(network, source, recipe, seed, *, preprocess=None, position=START, callbacks=(), console=None):
    """Trains a compiled classifier on the train split of `source`, with its validation split beside."""

    def examples(epoch, step):
        return examples_of_step(source, recipe, seed, epoch, step)

    with file_errors():
        network.fit(
            training_data(source, recipe, seed, position=position, preprocess=preprocess, console=console),
            initial_epoch=position.epoch,
            epochs=recipe.epochs,
            steps_per_epoch=steps_per_epoch(source.splits["train"], recipe.batch_size),
            validation_data=evaluation_data(source, "validation", preprocess=preprocess, console=console),
            # The average of the weights, where there is one, is what is evaluated; Keras keeps it in the end. Put back
            # behind the others: they see what was validated.
            callbacks=[
                StopOnNonFiniteLoss(examples),
                *callbacks,
                *([keras.callbacks.SwapEMAWeights()] if recipe.ema_momentum is not None else []),
            ],
            shuffle=False,  # the data set shuffles itself
            verbose=0,
        )
