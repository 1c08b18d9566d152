"""The best trial as a run, which every verb of `keras-perceiver` takes: evaluate, export, benchmark, attend."""

import dataclasses
import shutil

from keras_perceiver.training import Run, figure_of
from keras_perceiver.training.evaluate import evaluate_model
from keras_perceiver.training.spaces import model_at
from tuning.report import point_of


def keep_best(tuner, result, folder):
    """Makes the folder `best` of a search a run with the weights of its best trial, measured on the test split.

    Returns:
        `(Run, its figures in words)`.
    """
    hyper, run = tuner.hypermodel, Run(folder / "best")
    point = point_of(result, hyper)
    config = {
        **hyper.config,
        "model": {**hyper.config["model"], **model_at(point, hyper.config["model"])},
        "training": dataclasses.asdict(hyper.recipe_at(point)),
        "trial": result.trial,
    }
    if not (run.is_finished and run.config().get("trial") == result.trial):
        shutil.rmtree(run.folder, ignore_errors=True)
        run.claim(config)
        run.write_data(hyper.source)
        model = tuner.load_model(tuner.oracle.get_trial(result.trial))
        run.save_model(model)
        metrics = evaluate_model(model, hyper.source, preprocess=config["preprocess"])
        run.write_json("metrics.json", {**metrics, "seconds": result.seconds})
    return run, figure_of(run.read_json("metrics.json"))
