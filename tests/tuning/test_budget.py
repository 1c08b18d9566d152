"""A budget is compared with the trial that comes first."""

from types import SimpleNamespace

import pytest

from keras_perceiver._checks import InputError
from keras_perceiver.data import load_source
from keras_perceiver.training import HyperPerceiver
from tests.tiny import TINY_MODEL
from tuning import budget
from tuning.budget import require_budget, smallest_points
from tuning.tuner import Limits


@pytest.fixture(scope="module")
def hyper():
    return HyperPerceiver(load_source("digits"), space={"num_latents": [2, 5]}, model={**TINY_MODEL, "num_latents": 5})


@pytest.fixture
def timed(monkeypatch):
    """A run takes ten seconds for each latent."""

    def plan_run(model, *_, **__):
        seconds = 10.0 * model.get_layer("latent_array").num_latents
        return SimpleNamespace(steps_per_epoch=1, epochs=1, first_step_seconds=seconds, step_seconds=7.0)

    def measure(model, hyper):
        return {"parameters": model.count_params(), "flops": 1, "latency_ms": 1.0}

    monkeypatch.setattr(budget, "plan_run", plan_run)
    monkeypatch.setattr(budget, "measure", measure)
    monkeypatch.setattr(HyperPerceiver, "compiled", HyperPerceiver.network)


def test_minutes_are_those_of_the_default_which_comes_first(hyper, timed):
    require_budget(hyper, Limits(), 50 / 60)
    with pytest.raises(InputError, match=r"must be enough for one trial.*The default, which is tried first, .* 50 s"):
        require_budget(hyper, Limits(), 49 / 60)


def test_where_the_default_is_not_trained_first_they_are_those_of_the_smallest(hyper, timed):
    small, large = (hyper.network({"num_latents": number}).count_params() for number in (2, 5))
    for limits, first_epochs in ((Limits(parameters=(small + large) // 2), None), (Limits(), 1)):
        require_budget(hyper, limits, 20 / 60, first_epochs=first_epochs)
        with pytest.raises(InputError, match="The smallest model of the space takes about 20 s"):
            require_budget(hyper, limits, 19 / 60, first_epochs=first_epochs)


def test_a_first_trial_of_hyperband_has_as_many_epochs_as_its_round(hyper, timed):
    require_budget(hyper, Limits(), 34 / 60, first_epochs=3)
    with pytest.raises(InputError, match="The smallest model of the space takes about 34 s"):
        require_budget(hyper, Limits(), 33 / 60, first_epochs=3)


def test_the_smallest_model_shares_its_weights_where_it_may():
    model = {**TINY_MODEL, "num_cross_attends": 2, "num_blocks": 2, "share_weights": False}
    space = {"share_weights": [False, True], "num_cross_attends": [1, 2]}
    hyper = HyperPerceiver(load_source("digits"), space=space, model=model)
    (smallest,) = smallest_points(hyper)
    assert smallest["num_cross_attends"] is not True, "one, and no boolean"
    default = hyper.network({"share_weights": False, "num_cross_attends": 2}).count_params()
    assert hyper.network(smallest).count_params() < default


def test_a_range_of_patches_has_a_smallest_model_for_each():
    space = {"patch_size": {"min": 2, "max": 8, "sampling": "log", "step": 2}}
    hyper = HyperPerceiver(load_source("digits"), space=space, model=TINY_MODEL)
    assert [point["patch_size"] for point in smallest_points(hyper)] == [2, 4, 8]
