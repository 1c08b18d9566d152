"""PointNet: the size of its paper, a set and no list, and what its transform does."""

import itertools

import keras
import numpy as np
import oracle
import pytest

from keras_perceiver.inspection import describe_model
from keras_perceiver.models import build_pointnet
from tests.layer_checks import randomise, shapes_only

SHAPE = {"points": (7, 5)}
RNG = np.random.default_rng(0)


def cloud(num_real=5):
    return {
        "points": RNG.normal(size=(2, 7, 5)).astype("float32"),
        "points_padding_mask": np.arange(7) < np.array([[num_real], [7]]),
    }


def test_at_full_width_it_has_the_parameters_of_its_paper():
    """Qi et al. 2017, table 6: 0.8 M for 40 classes ("vanilla"). By hand: kernels, scales and offsets, the logits."""
    widths = [3, 64, 64, 64, 128, 1024, 512, 256]
    by_hand = sum(a * b + 2 * b for a, b in itertools.pairwise(widths)) + 256 * 40 + 40
    with shapes_only():
        plain = build_pointnet({"points": (1024, 3)}, 40, width=64)
        turned = build_pointnet({"points": (1024, 3)}, 40, width=64, input_transform=True)
    trained = [sum(int(np.prod(w.shape)) for w in model.trainable_weights) for model in (plain, turned)]
    assert trained[0] == by_hand
    assert round(by_hand / 1e6, 1) == 0.8
    widths = [3, 64, 128, 1024, 512, 256]
    assert trained[1] - trained[0] == sum(a * b + 2 * b for a, b in itertools.pairwise(widths)) + 256 * 9 + 9


@pytest.mark.parametrize("arguments", [{}, {"input_transform": True}, {"num_bands": 2, "permute_seed": 3}])
def test_the_order_of_the_points_does_not_matter_and_it_is_saved(arguments, tmp_path):
    model, batch = randomise(build_pointnet(SHAPE, 3, width=4, **arguments)), cloud()
    logits, order = model(batch).numpy(), [3, 6, 0, 4, 1, 5, 2]
    np.testing.assert_allclose(model({k: v[:, order] for k, v in batch.items()}).numpy(), logits, atol=1e-5)
    assert np.abs(model({**batch, "points": 2 * batch["points"]}).numpy() - logits).max() > 1e-4
    assert describe_model(model).not_counted == ()
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras")(batch), logits, atol=1e-6)


def test_a_fresh_transform_leaves_the_cloud_as_it_is():
    plain, turned = build_pointnet(SHAPE, 3, width=4), build_pointnet(SHAPE, 3, width=4, input_transform=True)
    for layer in plain.layers:
        turned.get_layer(layer.name).set_weights(layer.get_weights())
    batch = cloud()
    np.testing.assert_allclose(turned(batch), plain(batch), atol=1e-6)


def test_fourier_features_are_the_papers_with_frequencies_1_to_k():
    model, batch = build_pointnet(SHAPE, 3, width=4, num_bands=3), cloud(num_real=7)
    entered = keras.Model(model.input, model.get_layer("inputs_concatenated").output)(batch)[0]
    points = batch["points"]
    for place in ((0, 0), (1, 6)):
        features = oracle.fourier_features(points[place][:3], 3, (6, 6, 6))
        np.testing.assert_allclose(entered[place], [*points[place][3:], *features], atol=1e-5)
