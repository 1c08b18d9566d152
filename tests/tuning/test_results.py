"""What is told of a trial."""

import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_perceiver._checks import InputError
from tuning.importance import FEWEST, importance
from tuning.results import TrialResult, front, ranked, result_of
from tuning.tuner import REASON, reason_of

# As TensorFlow 2.21 says it of a compiled step, here without most of its lines of Python.
GRAPH_ERROR = """Graph execution error:

Detected at node gradient_tape/MatMul defined at (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main

  File "/site-packages/keras/src/backend/tensorflow/trainer.py", line 82, in train_step

OOM when allocating tensor with shape[512,50176,261] and type float
   [[{{node gradient_tape/MatMul}}]]
Hint: If you want to see a list of allocated tensors when OOM happens, add report_tensor_allocations_upon_oom.
 [Op:__inference_one_step_on_data_4242]"""
EAGER_ERROR = "{{function_node __wrapped__Mul_device_/job:localhost/CPU:0}} failed to allocate memory [Op:Mul] name: "


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            tf.errors.ResourceExhaustedError(None, None, GRAPH_ERROR),
            "ResourceExhaustedError: OOM when allocating tensor with shape[512,50176,261] and type float",
        ),
        (
            tf.errors.ResourceExhaustedError(None, None, EAGER_ERROR),
            "ResourceExhaustedError: failed to allocate memory",
        ),
        (ValueError("of two\nlines"), "ValueError: of two lines"),
        (MemoryError(), "MemoryError"),
        (InputError("`x` must be y."), "InputError: `x` must be y."),
        (keras_tuner.errors.FailedTrialError("over a limit: flops"), "over a limit: flops"),
    ],
)
def test_a_reason_is_what_has_happened_and_not_where(error, expected):
    assert reason_of(error) == expected


def test_a_reason_fits_a_line():
    assert len(reason_of(ValueError("x" * 10_000))) < REASON + 20


def test_epochs_are_counted_from_the_first_that_hyperband_has_trained(tmp_path):
    trial = Trial(keras_tuner.HyperParameters(), "7", TrialStatus.COMPLETED)
    trial.best_step, trial.score = 1, 0.5
    assert result_of(trial, tmp_path).epoch == 2
    trial.hyperparameters.values = {"tuner/initial_epoch": 3, "tuner/epochs": 9}
    assert result_of(trial, tmp_path).epoch == 5


def test_a_reason_of_tensorflows_own():
    @tf.function(input_signature=[tf.TensorSpec([None])])
    def reshaped(x):
        return tf.reshape(x, [3, 3])

    with pytest.raises(tf.errors.InvalidArgumentError, match="Detected at node") as raised:
        reshaped(tf.zeros(8))
    expected = "InvalidArgumentError: Input to reshape is a tensor with 8 values, but the requested shape has 9"
    assert reason_of(raised.value) == expected


def result(trial, score, ms, **values):
    return TrialResult(trial, "completed", score, 1, values, latency_ms=ms)


@pytest.mark.parametrize(("direction", "expected"), [("max", ["c", "a", "d"]), ("min", ["c", "b"])])
def test_on_the_front_is_what_no_faster_one_is_better_than(direction, expected):
    """By hand: c is the fastest; a and d are slower and better where more is better, b where less is."""
    results = [result("a", 0.8, 2.0), result("b", 0.6, 3.0), result("c", 0.7, 1.0), result("d", 0.9, 4.0)]
    results.append(result("e", 0.7, 1.5))
    objective = keras_tuner.Objective("val_accuracy", direction)
    assert [r.trial for r in front(results, objective)] == expected
    assert ranked(results, objective)[0].trial == {"max": "d", "min": "b"}[direction]
    same = [result("slow", 0.5, 2.0), result("fast", 0.5, 1.0)]
    assert [r.trial for r in ranked(same, objective)] == ["fast", "slow"]


def test_importance_is_that_of_what_the_score_follows_from():
    rng = np.random.default_rng(0)
    results = []
    for number in range(24):
        values = {"learning_rate": float(rng.uniform()), "optimizer": str(rng.choice(["adamw", "lamb"])), "same": 3}
        results.append(result(str(number), values["learning_rate"] + rng.normal() / 50, 1.0, **values))
    shares = importance(results)
    assert list(shares) == ["learning_rate", "optimizer"]
    assert shares["learning_rate"] > 0.9
    assert sum(shares.values()) == pytest.approx(1)
    assert importance(results[: FEWEST - 1]) == {}
