"""Whole streams are dropped, in training alone, as often as they should be."""

import numpy as np
import pytest
from layer_checks import check_layer

from keras_perceiver import ModalityDropout, build_encoder
from keras_perceiver._checks import InputError

CONTENT = np.random.default_rng(0).normal(size=(2, 5, 3, 7)).astype("float32")


def test_it_is_a_layer(tmp_path):
    arguments = {"rate": 0.2}
    check_layer(tmp_path, ModalityDropout, arguments, {"content": CONTENT}, output_dtypes=lambda dtype: ["float32"])


def test_in_training_some_examples_lose_everything_and_others_nothing():
    ones = np.ones((1000, 3, 2), "float32")
    sums = np.asarray(ModalityDropout(0.3)(ones, training=True)).sum(axis=(1, 2))
    assert set(sums) == {0.0, 6.0}
    assert np.mean(sums == 0) == pytest.approx(0.3, abs=0.06)  # four standard deviations
    np.testing.assert_array_equal(ModalityDropout(0.3)(ones, training=False), ones)


def test_a_model_that_loses_a_modality_depends_on_the_other_alone():
    shapes = {"audio": (7, 3), "video": (5, 2, 3)}
    settings = {"num_latents": 3, "latent_dim": 8, "num_bands": 2, "num_self_attention_layers": 0}
    model = build_encoder(shapes, modality_dropout={"video": 0.999}, num_blocks=1, num_cross_attends=1, **settings)
    rng = np.random.default_rng(2)
    a = {name: rng.normal(size=(2, *shape)).astype("float32") for name, shape in shapes.items()}
    b = {**a, "video": rng.normal(size=(2, *shapes["video"])).astype("float32")}
    np.testing.assert_array_equal(model(a, training=True), model(b, training=True))
    assert np.abs(np.asarray(model(a)) - np.asarray(model(b))).max() > 1e-6
    assert np.abs(np.asarray(model(a, training=True)) - np.asarray(model(a))).max() > 1e-6


@pytest.mark.parametrize("rate", [-0.1, 0, 1.0, "0.3"])
def test_rates_are_probabilities(rate):
    with pytest.raises(InputError, match=r"`rate` must be a number in \(0, 1\)"):
        ModalityDropout(rate)


def test_a_modality_that_the_model_has_not_is_refused():
    with pytest.raises(InputError, match="film"):
        build_encoder({"audio": (7, 3)}, modality_dropout={"film": 0.3})
    with pytest.raises(InputError, match=r"must be \{modality: probability\}"):
        build_encoder({"audio": (7, 3)}, modality_dropout=0.3)
