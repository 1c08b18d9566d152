"""Learning rates over a run, worked out by hand, and against Keras' own cosine."""

import keras
import numpy as np
import pytest

from keras_perceiver._checks import InputError
from keras_perceiver.training.schedules import RunSchedule


def rates(schedule, steps):
    return [float(schedule(step)) for step in steps]


def test_steps_divide_by_ten_at_the_papers_epochs():
    schedule = RunSchedule("step", 4e-3, num_steps=120 * 7, decay_at=(84 / 120, 102 / 120, 114 / 120))
    firsts = [0, 84 * 7, 102 * 7, 114 * 7]  # of the epochs 0, 84, 102, 114 at seven steps each
    lasts = [84 * 7 - 1, 102 * 7 - 1, 114 * 7 - 1, 120 * 7 - 1]
    np.testing.assert_allclose(rates(schedule, firsts), [4e-3, 4e-4, 4e-5, 4e-6], rtol=1e-5)
    np.testing.assert_allclose(rates(schedule, lasts), [4e-3, 4e-4, 4e-5, 4e-6], rtol=1e-5)


def test_the_boundaries_are_exact_at_the_papers_size():
    steps = 1_281_167 // 1024
    schedule = RunSchedule("step", 1.0, num_steps=120 * steps, decay_at=(84 / 120, 102 / 120, 114 / 120))
    np.testing.assert_allclose(rates(schedule, [84 * steps - 1, 84 * steps]), [1, 0.1], rtol=1e-5)
    np.testing.assert_allclose(rates(schedule, [114 * steps - 1, 114 * steps]), [0.01, 0.001], rtol=1e-5)


def test_flat_then_cosine():
    schedule = RunSchedule("flat_cosine", 0.5, num_steps=100, flat_fraction=0.6)
    np.testing.assert_allclose(rates(schedule, [0, 59, 60, 70, 80, 100]), [0.5, 0.5, 0.5, 0.42678, 0.25, 0], atol=1e-5)


def test_constant_is_constant_behind_its_rise():
    schedule = RunSchedule("constant", 0.5, num_steps=30, warmup_steps=6)
    np.testing.assert_allclose(rates(schedule, [0, 3, 6, 29]), [0.005, 0.2525, 0.5, 0.5], atol=1e-6)


@pytest.mark.parametrize("warmup", [0, 13])
def test_cosine_is_that_of_keras(warmup):
    ours = RunSchedule("cosine", 0.3, num_steps=101, warmup_steps=warmup)
    start = {"initial_learning_rate": 0.003, "warmup_target": 0.3, "warmup_steps": 13}
    settings = start if warmup else {"initial_learning_rate": 0.3}
    theirs = keras.optimizers.schedules.CosineDecay(**settings, decay_steps=101 - warmup)
    np.testing.assert_allclose(rates(ours, range(0, 111, 5)), rates(theirs, range(0, 111, 5)), atol=1e-6)


def test_a_schedule_survives_its_configuration():
    schedule = RunSchedule("step", 0.1, 50, 5, 0.25, (0.5, 0.75))
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert again.get_config() == schedule.get_config()
    assert rates(again, range(50)) == rates(schedule, range(50))


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match=r"`kind` must be one of .*Did you mean 'cosine'"):
        RunSchedule("cosin", 0.1, 10)
