"""The main job: data -> a trained, evaluated and exported model in a run folder."""

import shutil
import time
from contextlib import ExitStack

import keras
import tensorflow as tf
from rich.console import Console

from keras_perceiver._checks import require, require_folder, require_one_of
from keras_perceiver.data import load_source, steps_per_epoch
from keras_perceiver.data.pipeline import require_divisible
from keras_perceiver.data.service import require_service
from keras_perceiver.models import NETWORKS
from keras_perceiver.training.best import BestEpoch
from keras_perceiver.training.board import board_callbacks
from keras_perceiver.training.configuration import (
    check_names,
    configuration,
    continued_source,
    data_options,
    resolved_preset,
    resolved_recipe,
    what_differs,
)
from keras_perceiver.training.distribution import Workers
from keras_perceiver.training.divergence import StopOnNonFiniteLoss
from keras_perceiver.training.evaluate import evaluate_model
from keras_perceiver.training.exports import export_once
from keras_perceiver.training.feeding import (
    crops_before_resizing,
    evaluation_data,
    examples_of_step,
    file_errors,
    steps_of_evaluation,
    training_data,
)
from keras_perceiver.training.initial import find_initial, freeze, take_weights
from keras_perceiver.training.memory import keep_freed_memory
from keras_perceiver.training.metrics import figure_of
from keras_perceiver.training.plan import plan_run
from keras_perceiver.training.plots import plot_confusion_matrix, plot_curves
from keras_perceiver.training.precision import MeanAveragePrecision
from keras_perceiver.training.progress import History, ProgressBar
from keras_perceiver.training.recipes import PRECISIONS
from keras_perceiver.training.resume import START, Checkpoints
from keras_perceiver.training.runs import Run
from keras_perceiver.training.stopping import StopRequest


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
    strategy=None,
    data_service=None,
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
        preset: key of `PRESETS`, a Perceiver by name; None for that of the data set or of its modality, and with a
            `base_recipe` of the paper for the paper's model. Shape and classes are those of the data; pictures that
            have no size of their own get the preset's.
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
        strategy: `tf.distribute.Strategy` over whose replicas each batch is divided, see `build_strategy`; None for one
            process with one device. All workers make the same call; the chief alone needs the folder of the run, and
            writes. Losses and weights are those of one process to the rounding of sums, where nothing is drawn at
            random within the model and nothing is normalised over a batch.
        data_service: "HOST:PORT" of a data service that makes the batches of training ready, in the same order, see
            `service_reader`; None for this process.
        console: `rich.console.Console` that shows what happens; None for a new one.

    Returns:
        The metrics on the test split, see `classification_metrics`, with `export`: the SavedModel, if any.

    Raises:
        InputError: where the data are unknown, arguments are illegal or contradict each other, the folder holds another
            run, or another process trains into it; before anything is written. Later, where a file cannot be written,
            and where the loss is not finite any more: checkpoints from before stay.
        Stopped: where a process got SIGTERM or SIGINT while it trained; there is a checkpoint.
        WorkerLost: where another worker has gone.
    """
    require(isinstance(seed, int) and 0 <= seed < 2**32, "`seed` must be an integer from 0 to 4,294,967,295", seed=seed)
    require_one_of(NETWORKS, network=network)
    require(not dry_run or strategy is None, "`dry_run` must be of one process", dry_run=dry_run)
    check_names(network, preset, base_recipe)
    if data_service is not None:
        require_service(data_service)
    initial = None if init is None else find_initial(init)
    keep_freed_memory()
    began, workers = time.monotonic(), Workers(strategy)
    console = (console or Console()) if workers.is_chief else Console(quiet=True)
    with workers.held_together():
        preset = resolved_preset(preset, base_recipe, network, data, source)
        source_options, preprocess = data_options(data, preset, source, preprocess)
        source = load_source(data, console=console, **source_options)
        name = source.name if network == "perceiver" else f"{source.name}-{network}"
        run = Run(output or f"runs/{name}-seed{seed}")
        if workers.by_chief(lambda: run.has_begun):
            source = continued_source(source, data, run, source_options, console, workers)
        overrides = _distributable(recipe or {}, workers)
        config = configuration(source, seed, network, model or {}, overrides, preprocess, preset, base_recipe)
        config |= {"init": initial and initial.description(), "frozen": list(frozen)}
        config |= {} if data_service is None else {"data_service": True}  # some pictures differ by some levels
        recipe = resolved_recipe(source, overrides, base_recipe, preprocess)
        _require_distributable(recipe, workers)
        _require_enough(source, workers)
        workers.require_same(config=config)
        with workers.scope():
            built, said = _built(source, seed, network, config, recipe, initial, frozen)
        said = [*what_differs(preset, config["model"]), *said]
        if dry_run:
            _say_what_is_trained(source, network, built, recipe, said, console)
            return _planned(built, source, recipe, seed, config, console)
        if shelf is not None:
            workers.by_chief(lambda: require_folder(shelf=shelf))
        with ExitStack() as stack:
            workers.by_chief(lambda: stack.enter_context(run.locked()))
            workers.by_chief(lambda: run.claim(config) or run.write_data(source))
            _say_what_is_trained(source, network, built, recipe, said, console)
            keeping = {"every_steps": checkpoint_steps, "every_minutes": checkpoint_minutes}
            own = _board(run.folder / "tensorboard", source, config, recipe, workers, console) if tensorboard else []
            serving = {"workers": workers, "service": data_service, "console": console}
            rows = _trained(built, source, recipe, config, run, keeping, [*own, *callbacks], **serving)
            if frozen:
                # A file does not say which inner layers are frozen: with an optimiser of some it could not be loaded.
                built.trainable = True
                with workers.scope():
                    _compile(built, source, recipe)
            workers.by_chief(lambda: run.save_model(built))
            metrics = evaluate_model(built, source, preprocess=config["preprocess"], workers=workers)
            served = built if strategy is None or not workers.is_chief else keras.models.load_model(run.model_path)
            metrics = workers.by_chief(lambda: _finished(run, served, source, config, rows, metrics, shelf, began))
    _say_how_it_ended(run, metrics, console)
    return metrics


def _distributable(overrides, workers):
    """The overrides of a recipe for a model in a strategy's scope, whose sums over replicas XLA does not compile."""
    if workers.strategy is None:
        return overrides
    require(
        not overrides.get("jit_compile"),
        "`jit_compile` must be left out with `--distribute`: sums over replicas are not compiled by XLA",
        jit_compile=True,
    )
    return {**overrides, "jit_compile": False}


def _require_distributable(recipe, workers):
    """Requires a recipe to ask for nothing that Keras' optimizers and loops cannot do in a strategy's scope."""
    if workers.strategy is None:
        return
    require_divisible(recipe.batch_size, workers.shard.total)
    for name, usual, repair in (
        ("gradient_accumulation_steps", None, "A larger `batch_size` on more replicas does the same."),
        ("steps_per_execution", 1, ""),
        (
            "precision",
            recipe.precision if recipe.precision != "float16" else "bfloat16",
            "bfloat16 needs no loss scale.",
        ),
    ):
        value = getattr(recipe, name)
        require(
            value == usual,
            f"`{name}` must be {usual!r} with `--distribute`: Keras does it for one replica alone",
            repair=repair,
            **{name: value},
        )


def _require_enough(source, workers):
    """Requires each replica to have examples to be evaluated on."""
    replicas = workers.shard.total
    for name in ("validation", "test"):
        require(
            len(source.splits[name]) >= replicas * steps_of_evaluation(source, name),
            f"The {name} split must have an example for each replica",
            examples=len(source.splits[name]),
            replicas=replicas,
        )


def _built(source, seed, network, config, recipe, initial, frozen):
    """A compiled model, and what is to be said of it."""
    keras.utils.set_random_seed(seed)
    policy = PRECISIONS[recipe.precision]
    model = NETWORKS[network](**config["model"], name=f"{source.name}_{network}", dtype=policy)
    said = [] if initial is None else [take_weights(model, initial, source.class_names)]
    if frozen:
        said.append(f"frozen: {', '.join(freeze(model, frozen))}")
    _compile(model, source, recipe)
    replicas = model.distribute_strategy.num_replicas_in_sync
    if tf.distribute.has_strategy():
        part = recipe.batch_size // replicas
        said.append(f"{replicas} replica{'s' * (replicas > 1)}, each with {part} examples of a batch, without XLA")
    if replicas > 1 and any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers):
        said.append("batch normalisation is over the examples of each replica, not over the batch")
    return model, said


def _compile(model, source, recipe):
    steps = steps_per_epoch(source.splits["train"], recipe.batch_size)
    recipe.compile(model, steps, multi_label=source.is_multi_label)


def _planned(model, source, recipe, seed, config, console):
    plan = plan_run(model, source, recipe, seed, preprocess=config["preprocess"], console=console)
    for line in plan.lines():
        console.print(line, highlight=False, soft_wrap=True)
    return plan


def _trained(model, source, recipe, config, run, keeping, callbacks, *, workers, service, console):
    """Trains a model to the end from where its run stands; returns its history, a dictionary an epoch."""
    rows, stop = [], StopRequest()
    folder = run.checkpoint_folder
    best = BestEpoch(folder / "best", rows, keep=recipe.keep == "best", patience=recipe.patience, workers=workers)
    checkpoints = Checkpoints(folder, rows, **keeping, stop=stop, workers=workers, console=console)
    position = checkpoints.restore(model)
    if position > (0, 0):
        console.print(f"going on {position} of {recipe.epochs}")
    with stop:
        fit(
            model,
            source,
            recipe.replaced(epochs=position.epoch) if best.is_over else recipe,
            config["seed"],
            preprocess=config["preprocess"],
            position=position,
            console=console,
            callbacks=[
                History(rows, lambda rows: workers.by_chief(lambda: run.write_history(rows))),
                best,
                checkpoints,
                ProgressBar(console, recipe.epochs, recipe.batch_size),
                *callbacks,
            ],
            workers=workers,
            service=service,
        )
    if recipe.keep == "best":
        console.print(f"kept: epoch {best.restore(model)}, the best on validation")
    return rows


def _finished(run, model, source, config, rows, metrics, shelf, began):
    """Writes what a run leaves beside its model and its history; returns the metrics with what is added to them."""
    _draw(run, rows, metrics, source)
    if shelf is not None:
        metrics["export"] = str(export_once(run, model, source, config, metrics, shelf=shelf))
    metrics["seconds"] = round(time.monotonic() - began, 1)
    run.write_json("metrics.json", metrics)
    shutil.rmtree(run.checkpoint_folder, ignore_errors=True)
    return metrics


def _say_how_it_ended(run, metrics, console):
    console.print(f"test {figure_of(metrics)} after {metrics['seconds']:.0f} s")
    console.print(f"run: {run.folder}", soft_wrap=True)
    if "export" in metrics:
        console.print(f"SavedModel: {metrics['export']}", soft_wrap=True)


def _board(folder, source, config, recipe, workers, console):
    """The callbacks of this worker that write for TensorBoard; of several replicas the figures of each epoch alone."""
    if workers.strategy is None:
        return board_callbacks(folder, source, config, recipe)
    console.print("with `--distribute` TensorBoard shows figures and learning rate, and nothing else")
    return [keras.callbacks.TensorBoard(folder, write_graph=False)] if workers.is_chief else []


def _say_what_is_trained(source, network, built, recipe, said, console):
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in source.splits.items())
    console.print(f"{source.name}: {sizes} examples; a {network} of {built.count_params():,} parameters")
    for line in [*said, *source.report.lines()]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    is_cropped = source.modality == "image" and recipe.crop_min_area < 1
    if is_cropped and recipe.crop_before_resizing and not crops_before_resizing(source, recipe):
        size = " x ".join(map(str, source.example_shape))
        console.print(f"random crops are parts of the pictures as they are kept, {size}, and not of files")
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


def fit(
    network,
    source,
    recipe,
    seed,
    *,
    preprocess=None,
    position=START,
    callbacks=(),
    workers=None,
    service=None,
    console=None,
):
    """Trains a compiled classifier on the train split of `source`, with its validation split beside.

    Returns:
        Keras' `History`.
    """
    workers = workers or Workers()
    shared = {"preprocess": preprocess, "shard": workers.shard, "console": console}
    # Else nothing is left to be trained, or all of it is asked for once.
    shared["is_repeated"] = recipe.epochs > 1 and position.epoch < recipe.epochs

    def examples(epoch, step):
        return examples_of_step(source, recipe, seed, epoch, step)

    steps, precision = steps_of_evaluation(source, "validation"), []
    with file_errors():
        held_out = evaluation_data(source, "validation", **shared)
        if source.is_multi_label:
            split, labels = workers.distributed(held_out), source.splits["validation"].labels
            precision = [MeanAveragePrecision(split, labels, steps=steps)]
        return network.fit(
            workers.distributed(training_data(source, recipe, seed, position=position, service=service, **shared)),
            initial_epoch=position.epoch,
            epochs=recipe.epochs,
            steps_per_epoch=steps_per_epoch(source.splits["train"], recipe.batch_size),
            validation_data=workers.distributed(held_out, repeat=True),
            validation_steps=steps,
            # The average of the weights, where there is one, is what is evaluated; Keras keeps it in the end. Put back
            # behind the others: they see what was validated.
            callbacks=[
                StopOnNonFiniteLoss(examples),
                *precision,
                *callbacks,
                *([keras.callbacks.SwapEMAWeights()] if recipe.ema_momentum is not None else []),
            ],
            shuffle=False,  # the data set shuffles itself
            verbose=0,
        )
