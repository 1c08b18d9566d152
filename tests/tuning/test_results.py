"""What is told of a trial."""

import keras_tuner
import pytest
import tensorflow as tf
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_perceiver._checks import InputError
from tuning.results import result_of
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
