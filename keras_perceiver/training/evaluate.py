"""A trained model -> its figures on the test split."""

import keras
import numpy as np

from keras_perceiver._checks import require
from keras_perceiver.data import load_source
from keras_perceiver.models.encoder import with_policy
from keras_perceiver.training.distribution import Workers
from keras_perceiver.training.feeding import clips_of, evaluation_data, file_errors, steps_of_evaluation
from keras_perceiver.training.metrics import classification_metrics, multi_label_metrics
from keras_perceiver.training.recipes import PRECISIONS
from keras_perceiver.training.runs import Run


def evaluate(run, *, data=None):
    """Repeats the figures of a finished run from its saved model.

    Args:
        run: the run folder.
        data: a `Source` where the run was trained on one; None to load the data again from where they were.

    Returns:
        The metrics on the test split, see `classification_metrics`.
    """
    run = Run(run)
    config = run.config()
    run.read_json("metrics.json")  # an unfinished run has none: a clear error
    source = reload_source(run, config) if data is None else data
    run.require_same({"source": source.description()})
    # The file keeps the policies of the layers, and not the model's own, which casts its inputs.
    policy = PRECISIONS[config["training"].get("precision", "float32")]
    model = with_policy(keras.models.load_model(run.model_path), policy)
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


def evaluate_model(model, source, *, preprocess=None, workers=None):
    """The metrics of `model` on the test split of `source`; the logits of several clips of an example are averaged.

    Of several `Workers` each predicts its part of the split, and all return the same.
    """
    workers = workers or Workers()
    clips = clips_of(source, "test")
    dataset = evaluation_data(source, "test", preprocess=preprocess, clips=clips, shard=workers.shard)
    with file_errors():
        logits = model.predict(
            workers.distributed(dataset), steps=steps_of_evaluation(source, "test", clips), verbose=0
        )
    metrics = multi_label_metrics if source.is_multi_label else classification_metrics
    return metrics(mean_of_clips(logits, clips), source.splits["test"].labels, source.class_names)


def mean_of_clips(logits, clips):
    """(clips of all examples, classes), those of an example one after the other -> (n, classes), their mean."""
    if clips is None:
        return logits
    begins = np.cumsum(clips) - clips
    return np.add.reduceat(logits, begins, axis=0) / np.asarray(clips)[:, None]
