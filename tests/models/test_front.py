"""What stands between the input of an encoder and its byte array: patches, convolutions, masks, coordinates."""

import keras
import numpy as np
import oracle
import pytest
from layer_checks import SMALL_MODEL, assert_close, randomise

from keras_perceiver import build_encoder
from keras_perceiver._checks import InputError

RNG = np.random.default_rng(0)


def build(input_shape=(7, 5), **arguments):
    return build_encoder(input_shape, **{**SMALL_MODEL, **arguments})


@pytest.mark.parametrize(
    ("front", "channels"),
    [
        ({}, 3),
        ({"patch_size": 2}, 2 * 2 * 3),
        ({"patch_size": (2, 5)}, 2 * 5 * 3),
        ({"stem": "conv", "stem_channels": 7}, 7),
    ],
)
def test_positions_are_attached_to_what_stands_in_front(front, channels):
    model = build((4, 10, 3), **front)
    query = next(w for w in model.weights if w.path.endswith("cross_attention_1/key/kernel"))
    assert query.shape[0] == channels + 2 * (2 * 3 + 1)  # content, and seven Fourier features for each axis
    assert model.output.shape == (None, 3, 22)


def test_a_stem_is_trained_and_patches_own_no_weights():
    names = [w.path for w in build((4, 10, 3), stem="conv").trainable_weights]
    assert [n for n in names if "stem" in n] == ["inputs_stem_1/kernel", "inputs_stem_1/bias"]
    assert not [w for w in build((4, 10, 3), patch_size=2).weights if "patches" in w.path]


def test_each_layer_of_a_stem_halves_every_axis_and_doubles_the_channels():
    model = build((5, 14, 3), stem="conv", stem_channels=22, num_stem_layers=2)
    assert model.get_layer("inputs_stem_1").output.shape == (None, 3, 7, 11)
    assert model.get_layer("inputs_stem_2").output.shape == (None, 2, 4, 22)


def test_each_modality_has_what_is_given_for_it_in_front():
    """Convolutions before the sound alone, patches before the film, single elements of the third."""
    shapes = {"audio": (8, 6, 1), "video": (4, 6, 3), "text": (5, 2)}
    model = build(shapes, stem={"audio": "conv"}, stem_channels=7, patch_size={"video": 2}, positions="none")
    names = {layer.name for layer in model.layers}
    assert {name for name in names if "stem" in name or "patches" in name} == {"audio_stem_1", "video_patches"}
    contents = {tensor.shape[1:] for tensor in model.get_layer("modality_encoding").input}
    assert contents == {(4, 3, 7), (2, 3, 2 * 2 * 3), (5, 2)}


@pytest.mark.parametrize("length", [5, 6])
def test_what_is_padded_has_no_influence_behind_a_stem_nor_has_how_much(length):
    """Two sounds, of which the second ends earlier: it is the same in a shorter array, whatever lies behind it."""
    arguments = {"stem": "conv", "num_stem_layers": 2, "padding_mask": True, "positions": "none"}
    model = build((12, 4, 3), **arguments)
    randomise(model)
    content = RNG.normal(size=(2, 12, 4, 3)).astype("float32")
    mask = np.broadcast_to(np.arange(12)[:, None] < np.array([12, length])[:, None, None], (2, 12, 4))
    expected = np.asarray(model({"inputs": content, "inputs_padding_mask": mask}))
    other = np.where(mask[..., None], content, np.nan).astype("float32")
    np.testing.assert_array_equal(model({"inputs": other, "inputs_padding_mask": mask}), expected)
    cut = build((8, 4, 3), **arguments)
    cut.set_weights(model.get_weights())
    alone = cut({"inputs": content[1:, :8], "inputs_padding_mask": mask[1:, :8]})
    assert_close(alone, expected[1:], 1e-5)
    longer = mask.copy()
    longer[1, length] = True
    assert np.abs(model({"inputs": content, "inputs_padding_mask": longer}) - expected)[1].max() > 1e-4
    for number in range(4):
        changed = content.copy()
        changed[1, length - 1, number, 0] += 1
        assert np.abs(model({"inputs": changed, "inputs_padding_mask": mask}) - expected)[1].max() > 1e-5


@pytest.mark.parametrize(
    ("front", "rule"),
    [
        ({"stem": "conv", "num_stem_layers": 0}, "`num_stem_layers` must be"),
        ({"patch_size": 3}, r"must divide the static length of every axis. Received: patch_size=3, axes=\(4, 10\)"),
        ({"patch_size": 2, "stem": "conv"}, "must not both be given"),
        ({"patch_size": 2, "stem": {"inputs": "conv"}}, "must not both be given for a modality.*modality='inputs'"),
        ({"stem": "cnov"}, "Did you mean 'conv'"),
        ({"stem": {"inputs": "cnov"}}, "Did you mean 'conv'"),
        ({"stem": {"image": "conv"}}, "`modality` must be one of 'inputs'"),
        ({"patch_size": {"image": 2}}, "`modality` must be one of 'inputs'"),
    ],
)
def test_what_cannot_stand_in_front_is_refused(front, rule):
    with pytest.raises(InputError, match=rule):
        build((4, 10, 3), **front)


def test_each_modality_may_have_patches_of_its_own():
    model = build({"image": (4, 10, 3), "audio": (12, 1)}, patch_size={"audio": 4})
    assert model.get_layer("audio_patches").output.shape == (None, 3, 4)


# Clouds of points

CLOUD = RNG.uniform(-1, 1, (2, 7, 5)).astype("float32")
CLOUDS = {"positions": "coordinates", "max_resolution": 13}


def test_the_positions_of_a_cloud_are_its_first_channels():
    model = build((7, 5), **CLOUDS)
    randomise(model)
    features = [[oracle.fourier_features(point, 3, (13,) * 3) for point in cloud[:, :3]] for cloud in CLOUD]
    rows = np.concatenate([CLOUD[..., 3:], features], axis=-1)  # [features of the point | raw | sin | cos]
    textbook = build((7, rows.shape[-1]), positions="none")
    textbook.set_weights(model.get_weights())
    assert_close(model(CLOUD), textbook(rows.astype("float32")), 1e-5)


def test_a_cloud_has_no_order_and_masked_points_have_no_influence():
    model = build((None, 5), padding_mask=True, **CLOUDS)
    randomise(model)
    mask = np.arange(7) < np.array([[5], [7]])
    expected = model({"inputs": CLOUD, "inputs_padding_mask": mask})
    order = RNG.permutation(7)
    assert_close(model({"inputs": CLOUD[:, order], "inputs_padding_mask": mask[:, order]}), expected, 1e-5)
    other = np.where(mask[..., None], CLOUD, np.nan).astype("float32")
    np.testing.assert_array_equal(model({"inputs": other, "inputs_padding_mask": mask}), expected)
    cut = model({"inputs": CLOUD[:1, :5], "inputs_padding_mask": mask[:1, :5]})
    assert_close(cut, expected[:1], 1e-5)


def test_a_cloud_depends_on_coordinates_and_features():
    model = build((None, 4), **CLOUDS)
    randomise(model)
    cloud = CLOUD[..., :4]
    for channel in range(4):
        other = cloud.copy()
        other[:, 2, channel] += 0.1
        assert np.abs(np.asarray(model(other)) - np.asarray(model(cloud))).max() > 1e-5


def test_a_model_of_clouds_is_saved_and_loaded(tmp_path):
    model = build((7, 3), padding_mask=True, **CLOUDS)
    model.save(tmp_path / "cloud.keras")
    inputs = {"inputs": CLOUD[..., :3], "inputs_padding_mask": np.ones((2, 7), bool)}
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "cloud.keras")(inputs), model(inputs))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (7, 2), "max_resolution": 13}, "the first 3 channels must be coordinates"),
        ({"max_resolution": None}, "`max_resolution` must be given"),
        ({"max_resolution": 13, "patch_size": 7}, "nothing may stand in front"),
        ({"max_resolution": 13, "stem": "conv"}, "nothing may stand in front"),
    ],
)
def test_what_a_cloud_needs(arguments, message):
    with pytest.raises(InputError, match=message):
        build(**{"input_shape": (7, 3), "positions": "coordinates", **arguments})


def test_of_patches_with_a_mask_those_with_a_real_element_are_real_and_what_is_masked_has_no_influence():
    model = build((12, 10, 3), patch_size=(4, 5), padding_mask=True)
    draws = np.random.default_rng(3)
    inputs = draws.normal(size=(2, 12, 10, 3)).astype("float32")
    mask = np.zeros((2, 12, 10), bool)
    mask[:, :5] = True  # the second row of patches is real by one row of its elements, the third is not
    other = np.where(mask[..., None], inputs, np.float32(np.nan))
    latents = model({"inputs": inputs, "inputs_padding_mask": mask})
    np.testing.assert_array_equal(latents, model({"inputs": other, "inputs_padding_mask": mask}))
    changed = inputs.copy()
    changed[:, 4, 0] += 1.0
    assert not np.allclose(latents, model({"inputs": changed, "inputs_padding_mask": mask}))
    mask[:, 5:8] = True  # changes nothing about which patches are real, but these elements now count
    assert not np.allclose(latents, model({"inputs": inputs, "inputs_padding_mask": mask}))
