"""A trained model -> its figures on the test split."""

from keras_perceiver.data import evaluation_dataset, load_source, normalize_pixels
from keras_perceiver.training.metrics import classification_metrics
from keras_perceiver.training.runs import Run


def evaluate(run):
    """Repeats the figures of a finished run from its saved model.

    Args:
        run: the run folder.

    Returns:
        The metrics on the test split, see `classification_metrics`.
    """
    import keras

    run = Run(run)
    source = load_source(run.config()["data"])
    run.read_json("metrics.json")  # an unfinished run has none: a clear error
    return evaluate_model(keras.models.load_model(run.model_path), source)


def evaluate_model(model, source):
    """The metrics of `model` on the test split of `source`."""
    split = source.splits["test"]
    dataset = evaluation_dataset(
        split, batch_size=256, num_classes=len(source.class_names), preprocess=normalize_pixels
    )
    return classification_metrics(model.predict(dataset, verbose=0), split.labels, source.class_names)
