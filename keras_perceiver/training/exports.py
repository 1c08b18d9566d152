"""A finished run -> what serves its model."""

import uuid

from keras_perceiver._checks import require, require_one_of
from keras_perceiver._files import write_atomically
from keras_perceiver.export import export_litert, export_saved_model
from keras_perceiver.export.shelf import marked_version
from keras_perceiver.training.evaluate import reload_source
from keras_perceiver.training.feeding import example_bytes, raw_examples
from keras_perceiver.training.metrics import classification_metrics, multi_label_metrics
from keras_perceiver.training.runs import Run

FORMATS = ("saved_model", "litert")
HELD_OUT, LEAST = 7, 3  # test examples that a SavedModel is compared on; of a model that takes seconds for each
MEASURED = 1000  # test examples that a LiteRT file is measured on, and
MEASURED_FLOPS = 1.2e12  # at most, with all of them together: ten seconds or so on two cores, live
MEASURED_BYTES = 2**29  # 512 MiB of these examples
MARK = "export"  # a file among a run's checkpoints
CALIBRATION, LEAST_CALIBRATION = 200, 32  # training examples from which "int8" learns ranges


def export_run(
    run,
    *,
    export_format="saved_model",
    quantize="none",
    xla=False,
    shelf="saved_models",
    licence=None,
    max_points_lost=None,
    data=None,
):
    """Exports the model of a finished run again, or in another format.

    Args:
        run: the run folder.
        export_format: "saved_model" or "litert".
        quantize: key of `QUANTIZE`, of a LiteRT file.
        xla: whether a SavedModel has an endpoint that XLA compiles.
        shelf: the folder that holds exported models.
        licence: of weights and data, for the model card.
        max_points_lost: see `export_litert`.
        data: a `Source` where the run was trained on one; None to load the data again from where they were.

    Returns:
        `Export`.

    Raises:
        InputError: where the run is not finished, its data have changed, or the export does not pass its gate.
    """
    import keras

    require_one_of(FORMATS, export_format=export_format)
    for_litert = {"quantize": None if quantize == "none" else quantize, "max_points_lost": max_points_lost}
    given = [name for name, value in for_litert.items() if value is not None]
    require(export_format == "litert" or not given, 'These options are for `export_format="litert"`', options=given)
    require(export_format == "saved_model" or not xla, '`xla` is for `export_format="saved_model"`', xla=xla)
    run = Run(run)
    config, metrics = run.config(), run.read_json("metrics.json")
    source = reload_source(run, config) if data is None else data
    run.require_same({"source": source.description()})
    model = keras.models.load_model(run.model_path)
    if export_format == "saved_model":
        return export_model(model, source, config, metrics, shelf=shelf, licence=licence, xla=xla)
    examples, labels = raw_examples(source, "test", min(MEASURED, _affordable(model, source, LEAST)))
    learned = min(CALIBRATION, _affordable(model, source, LEAST_CALIBRATION))
    return export_litert(
        model,
        **_described(source, config, metrics, licence),
        shelf=shelf,
        quantize=quantize,
        examples=examples,
        figure=_figure(source, labels),
        calibration=raw_examples(source, "train", learned)[0] if quantize == "int8" else None,
        max_points_lost=max_points_lost,
    )


def _affordable(model, source, least):
    """How many examples a model answers in ten seconds or so, and `least` at least; no more than fit into memory."""
    from keras_perceiver.inspection import describe_model  # which draws runs, and those import this module

    by_time = MEASURED_FLOPS / describe_model(model).flops
    return max(LEAST, int(min(max(by_time, least), MEASURED_BYTES / example_bytes(source))))


def export_once(run, model, source, config, metrics, *, shelf):
    """Exports a run that is about to be finished: one SavedModel, however often it was killed before it was finished.

    A mark is written into the run before, and into the export's provenance: a version that has it is this one.

    Returns:
        The folder of the version.
    """
    path = run.checkpoint_folder / MARK
    if path.is_file():
        mark = path.read_text()
        known = marked_version(shelf, _described(source, config, metrics)["name"], mark)
        if known is not None:
            return known
    mark = uuid.uuid4().hex
    run.checkpoint_folder.mkdir(exist_ok=True)
    write_atomically(path, mark)
    return export_model(model, source, config, metrics, shelf=shelf, mark=mark).folder


def export_model(model, source, config, metrics, *, shelf, licence=None, xla=False, mark=None):
    """The SavedModel of a run whose parts are at hand, compared on examples of its test split."""
    examples, _ = raw_examples(source, "test", min(HELD_OUT, _affordable(model, source, LEAST)))
    described = _described(source, config, metrics, licence)
    if mark is not None:
        described["provenance"]["export"] = mark
    return export_saved_model(model, **described, shelf=shelf, xla=xla, examples=examples)


def _described(source, config, metrics, licence=None):
    """What every format is told of the run."""
    name = source.name if config["network"] == "perceiver" else f"{source.name}-{config['network']}"
    figures = {key: value for key, value in metrics.items() if isinstance(value, (int, float))}
    return {
        "name": name,
        "class_names": source.class_names,
        "modality": source.modality,
        "shape": source.example_shape,
        "settings": config["preprocess"],
        "multi_label": source.is_multi_label,
        "provenance": {"data": config["data"], "configuration": config, "metrics": figures, "licence": licence},
    }


def _figure(source, labels):
    """A function of the logits of examples with these labels that returns their accuracy or mean average precision."""
    if source.is_multi_label:
        return lambda logits: multi_label_metrics(logits, labels, source.class_names)["mean_average_precision"] or 0.0
    return lambda logits: classification_metrics(logits, labels, source.class_names)["accuracy"]
