"""A trained model -> its figures on the test split."""

from keras_perceiver._checks import require
from keras_perceiver.data import load_source
from keras_perceiver.training.feeding import evaluation_data, file_errors
from keras_perceiver.training.metrics import classification_metrics
from keras_perceiver.training.runs import Run


def evaluate(run, *, data=None):
    """Repeats the figures of a finished run from its saved model.

    Args:
        run: the run folder.
        data: a `Source` where the run was trained on one; None to load the data again from where they were.

    Returns:
        The metrics on the test split, see `classification_metrics`.
    """
    import keras

    run = Run(run)
    config = run.config()
    run.read_json("metrics.json")  # an unfinished run has none: a clear error
    source = reload_source(run, config) if data is None else data
    run.require_same({"source": source.description()})
    model = keras.models.load_model(run.model_path)
    return evaluate_model(model, source, preprocess=config["preprocess"])


def reload_source(run, config):
    """The data of a run, in the splits and the shape that it was trained with."""
    require(
        config["data"] is not None,
        "`data` must be given again where a run was trained on data sets of Python's",
        run=str(run.folder),
    )
    known = config["source"]
    return load_source(
        config["data"],
        modality=known["modality"],
        data_dir=known["data_dir"],
        shape=known["shape"],
        splits=run.splits(),
    )


def evaluate_model(model, source, *, preprocess=None):
    """The metrics of `model` on the test split of `source`."""
    dataset = evaluation_data(source, "test", preprocess=preprocess)
    with file_errors():
        logits = model.predict(dataset, verbose=0)
    return classification_metrics(logits, source.splits["test"].labels, source.class_names)
