"""KerasTuner's tuner, with limits that a model must keep, and the facts of each trial on disk."""

import json
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import keras_tuner
import numpy as np
import tensorflow as tf

from keras_perceiver._files import write_atomically
from keras_perceiver.export.endpoints import Served
from keras_perceiver.export.fresh_process import milliseconds
from keras_perceiver.inspection import describe_model
from tuning import attempts

FACTS = "facts.json"  # of a trial, beside KerasTuner's own files
OVER = "over a limit"  # how the reason begins of a trial that is not trained
LATENCY_SECONDS = 2.0
REASON = 500  # characters at most of why a trial has failed
# What TensorFlow's errors hold beside what has happened: names of its nodes, and lines of Python.
WHERE = re.compile(r"\{\{function_node [^}]*\}\}|\[\[\{\{node [^\]]*\]\]|\[Op:[^\]]*\](?: name:)?")
PLACES = ("Graph execution error:", "Detected at node", 'File "', "Hint: ", "<stack traces unavailable>")


class ChiefLost(keras_tuner.errors.FatalError):
    """The process that holds the search has gone, or cannot be reached."""


@dataclass(frozen=True)
class Limits:
    """What a model may cost; None for any.

    Attributes:
        flops: of a forward pass of one example.
        parameters: of the model.
        latency_ms: of a call with one example on this machine, see `latency`.
    """

    flops: int | None = None
    parameters: int | None = None
    latency_ms: float | None = None

    def exceeded(self, costs):
        """In words, by how much the costs of `measure` are too high; an empty string where they are not."""
        over = [(name, costs[name], limit) for name, limit in asdict(self).items() if limit and costs[name] > limit]
        return "; ".join(
            f"{name.replace('_', ' ')} {_said(cost)}, at most {_said(limit)}" for name, cost, limit in over
        )


class Search(keras_tuner.Hyperband):
    """KerasTuner's tuner for any of our oracles. That of Hyperband is its only one that goes on with an earlier trial
    where the oracle asks for it, and is like the others where it does not.

    Args:
        oracle: of `ORACLES`.
        hypermodel: `HyperPerceiver`.
        limits: `Limits`; a trial that is over one is not trained.
        is_watched: whether this is a process of `run_workers`, which starts it again where it dies.
        **kwargs: of `keras_tuner.Tuner`.
    """

    def __init__(self, oracle, hypermodel, *, limits, is_watched, **kwargs):
        keras_tuner.Tuner.__init__(self, oracle, hypermodel, **kwargs)
        self.limits = limits
        self.is_watched = is_watched

    def on_trial_begin(self, trial):
        self._facts, self._began = {"worker": self.tuner_id}, time.monotonic()
        super().on_trial_begin(trial)

    def run_trial(self, trial, *args, **kwargs):
        folder = self.get_trial_dir(trial.trial_id)
        given_up = attempts.begin(folder, self.tuner_id, is_watched=self.is_watched)
        try:
            if given_up:
                raise keras_tuner.errors.FailedTrialError(given_up)
            results = super().run_trial(trial, *args, **kwargs)
            self._require_score(results)
        except KeyboardInterrupt:
            attempts.stop(folder)
            raise
        except grpc.RpcError as error:  # for KerasTuner the trial would have failed
            code = error.code().name if isinstance(error, grpc.Call) else type(error).__name__
            said = f"the chief cannot be reached ({code}); started again under its name, this worker goes on"
            raise ChiefLost(said) from error
        except Exception as error:
            self._facts["reason"] = reason_of(error)
            raise
        return results

    def _require_score(self, results):
        """Requires the score to be a number: for KerasTuner a trial without one has failed, and it does not say why."""
        name, direction = self.oracle.objective.name, self.oracle.objective.direction
        for result in results:
            scores = np.ravel(getattr(result, "history", result)[name])
            # No epoch is better than a first one of NaN.
            best = scores[0] if np.isnan(scores[0]) else (np.nanmax if direction == "max" else np.nanmin)(scores)
            if not np.isfinite(best):
                raise keras_tuner.errors.FailedTrialError(f"{name} must be a number, and is {best}")

    def on_epoch_begin(self, trial, model, epoch, logs=None):
        super().on_epoch_begin(trial, model, epoch, logs=logs)
        if "parameters" in self._facts:
            return
        earlier = trial.hyperparameters.values.get("tuner/trial_id")
        if earlier is not None:  # the same model, which has kept the limits: its milliseconds are not drawn again
            facts = json.loads((Path(self.get_trial_dir(earlier)) / FACTS).read_text())
            self._facts |= {name: facts[name] for name in ("parameters", "flops", "latency_ms")}
            return
        self._facts |= measure(model, self.hypermodel)
        exceeded = self.limits.exceeded(self._facts)
        if exceeded:
            raise keras_tuner.errors.FailedTrialError(f"{OVER}: {exceeded}")

    def on_trial_end(self, trial):
        self._facts["seconds"] = round(time.monotonic() - self._began, 2)
        last = (trial.message or "").strip().splitlines()[-1:]  # of what has failed behind `run_trial`
        self._facts.setdefault("reason", "".join(last))
        write_atomically(Path(self.get_trial_dir(trial.trial_id)) / FACTS, json.dumps(self._facts))
        super().on_trial_end(trial)


def reason_of(error):
    """An error in one line: its kind, and what it says without the places where TensorFlow has found it."""
    lines = [" ".join(WHERE.sub("", line).split()) for line in str(error).splitlines()]
    said = " ".join(line for line in lines if line and not line.startswith(PLACES))
    said = said if len(said) <= REASON else f"{said[:REASON]} .."
    if isinstance(error, keras_tuner.errors.FailedTrialError):
        return said
    return f"{type(error).__name__}: {said}".removesuffix(": ")


def measure(model, hypermodel):
    """What a model costs: `{"parameters", "flops", "latency_ms"}`, of one example and on this machine."""
    described = describe_model(model)
    costs = {"parameters": described.parameters, "flops": described.flops}
    return {**costs, "latency_ms": latency_of(model, hypermodel.source, hypermodel.config["preprocess"])()}


def latency_of(model, source, preprocess):
    """A function that measures the milliseconds of a call with one example as a server gets it, in this process with
    all its threads.

    Of all calls in two seconds a fortieth is faster: what else runs on the machine changes that the least.
    """
    served = Served(model, modality=source.modality, shape=source.example_shape, settings=preprocess)
    forward = tf.function(served.forward, autograph=False)

    def ask(batch):
        return forward({name: tf.constant(x) for name, x in batch.items()})["logits"].numpy()

    one = served.noise(1)
    return lambda: round(float(np.percentile(milliseconds(ask, one, 1, LATENCY_SECONDS), 2.5)), 3)


def _said(value):
    return f"{value:,.3g}" if isinstance(value, float) else f"{value:,}"
