"""The networks that a Perceiver is compared with: their papers' sizes, and what each assumes of its input."""

import keras
import numpy as np
import oracle
import pytest
from layer_checks import randomise, shapes_only

from keras_perceiver import build_classifier
from keras_perceiver._checks import InputError
from keras_perceiver.inspection import describe_model
from keras_perceiver.models import NETWORKS, build_resnet18, build_resnet50, build_transformer, build_vit

SMALL = {
    "resnet18": {"width": 3},
    "vit": {"patch_size": (1, 3), "width": 8, "num_self_attention_layers": 1, "num_self_attention_heads": 2},
    "transformer": {"width": 8, "num_self_attention_layers": 1, "num_self_attention_heads": 2, "num_bands": 2},
}
PICTURES = np.random.default_rng(0).normal(size=(2, 7, 9, 3)).astype("float32")


def small(network, **arguments):
    return NETWORKS[network]((7, 9, 3), 5, **{**SMALL[network], **arguments})


def trained_parameters(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


def test_at_full_width_a_resnet18_has_the_parameters_of_its_paper():
    """He et al. 2016 for 224x224 pictures: 11,689,512 parameters that are trained, in every framework."""
    with shapes_only():
        assert trained_parameters(build_resnet18((224, 224, 3), 1000, width=64)) == 11_689_512


def test_a_resnet50_is_that_of_keras():
    with shapes_only():
        model = build_resnet50((224, 224, 3), 1000, dtype="mixed_bfloat16")
    assert model.count_params() == 25_636_712
    assert {layer.compute_dtype for layer in model.layers if layer.weights and layer.name != "logits"} == {"bfloat16"}
    assert keras.config.dtype_policy() == keras.DTypePolicy("float32")
    assert model.output.dtype == "float32"
    assert describe_model(model).not_counted == ()


@pytest.mark.parametrize("arguments", [{}, {"num_bands": 2, "permute_seed": 1}], ids=["raw", "fourier, permuted"])
def test_a_resnet50_looks_at_the_whole_picture(arguments):
    model = build_resnet50((33, 35, 3), 2, **arguments)
    pictures = np.random.default_rng(1).normal(size=(2, 33, 35, 3)).astype("float32")
    before = model(pictures).numpy()
    assert before.shape == (2, 2)
    for corner in (np.s_[:, 0, 0], np.s_[:, -1, -1]):
        changed = pictures.copy()
        changed[corner] += 3
        assert np.abs(model(changed).numpy() - before).min() > 1e-6


def test_a_vit_of_its_papers_size_is_vit_b_16():
    """Dosovitskiy et al. 2021, table 1: 86 M; to the last parameter as in its authors' release."""
    size = {"patch_size": 16, "width": 768, "num_self_attention_layers": 12, "num_self_attention_heads": 12}
    with shapes_only():
        assert build_vit((224, 224, 3), 1000, **size).count_params() == 86_567_656


def test_at_full_width_a_resnet18_of_films_is_r3d_18():
    """Tran et al. 2018; 33,371,472 parameters for 400 classes, as torchvision publishes of its `r3d_18`."""
    with shapes_only():
        model = build_resnet18((16, 112, 112, 3), 400, width=64)
    assert trained_parameters(model) == 33_371_472
    assert model.get_layer("stage_1_block_1_output").output.shape == (None, 16, 56, 56, 64)
    assert model.get_layer("stage_4_block_2_output").output.shape == (None, 2, 7, 7, 512)


def test_small_pictures_keep_their_pixels_up_to_the_first_block_and_large_ones_do_not():
    small, large = build_resnet18((29, 31, 1), 3, width=2), build_resnet18((131, 128, 1), 3, width=2)
    assert small.get_layer("stage_1_block_1_output").output.shape == (None, 29, 31, 2)
    assert large.get_layer("stage_1_block_1_output").output.shape == (None, 33, 32, 2)
    assert small.get_layer("stage_4_block_2_output").output.shape == (None, 4, 4, 16)


@pytest.mark.parametrize("network", SMALL)
@pytest.mark.parametrize("num_bands", [0, 2])
def test_logits_depend_on_every_part_of_the_picture(network, num_bands):
    model = small(network, num_bands=num_bands)
    logits = model(PICTURES).numpy()
    for row, column in ((0, 0), (6, 8), (3, 5)):
        changed = PICTURES.copy()
        changed[:, row, column] += 3
        assert np.abs(model(changed).numpy() - logits).max() > 1e-6


@pytest.mark.parametrize("network", SMALL)
def test_fourier_features_are_the_perceivers(network):
    """What enters behind the concatenation are pixels and the features of the paper, as the oracle writes them."""
    model = small(network, num_bands=2)
    entered = keras.Model(model.input, model.get_layer("inputs_concatenated").output)(PICTURES)
    features = oracle.fourier_grid((7, 9), 2, (7, 9))
    np.testing.assert_allclose(entered[..., :3], PICTURES)
    np.testing.assert_allclose(entered[0, ..., 3:], features, atol=1e-5)


@pytest.mark.parametrize("network", SMALL)
def test_only_networks_that_assume_neighbours_change_when_bytes_are_permuted(network):
    arguments = {"num_bands": 2}
    plain, permuted = small(network, **arguments), small(network, **arguments, permute_seed=3)
    permuted.set_weights(plain.get_weights())
    difference = np.abs(plain(PICTURES).numpy() - permuted(PICTURES).numpy()).max()
    assert (difference < 1e-5) == (network == "transformer"), difference


def test_a_perceiver_is_the_same_function_of_permuted_bytes():
    size = {"num_bands": 3, "num_latents": 3, "latent_dim": 8, "num_blocks": 2, "num_cross_attends": 2}
    size |= {"num_self_attention_layers": 1, "num_self_attention_heads": 2}
    for positions in ("fourier", "learned"):
        plain = randomise(build_classifier((7, 9, 3), 5, positions=positions, position_channels=5, **size))
        permuted = build_classifier((7, 9, 3), 5, positions=positions, position_channels=5, permute_seed=3, **size)
        permuted.set_weights(plain.get_weights())
        np.testing.assert_allclose(permuted(PICTURES), plain(PICTURES), atol=1e-5)


@pytest.mark.parametrize("network", SMALL)
def test_a_policy_reaches_every_layer_and_logits_stay_float32(network):
    model = NETWORKS[network]((8, 9, 1), 3, **SMALL[network], dtype="mixed_bfloat16")
    inner = [layer for layer in model.layers if layer.weights and layer.name != "logits"]
    assert {layer.compute_dtype for layer in inner} == {"bfloat16"}
    assert model.output.dtype == "float32"
    assert model.dtype_policy == keras.DTypePolicy("mixed_bfloat16")


@pytest.mark.parametrize("network", SMALL)
def test_a_network_is_saved_and_all_its_products_are_counted(network, tmp_path):
    model = small(network, permute_seed=5)
    assert describe_model(model).not_counted == ()
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras")(PICTURES), model(PICTURES), atol=1e-6)


def test_a_resnet18_of_several_modalities_has_a_trunk_for_each_and_listens_to_both():
    shapes = {"audio": (16, 8, 1), "video": (4, 16, 16, 3)}
    model = randomise(build_resnet18(shapes, 5, width=3, num_bands=1, permute_seed=2))
    alone = [build_resnet18({name: shape}, 5, width=3, num_bands=1) for name, shape in shapes.items()]
    assert model.count_params() == sum(network.count_params() for network in alone) - 5  # one bias of the logits
    assert describe_model(model).not_counted == ()
    rng = np.random.default_rng(0)
    batch = {name: rng.normal(size=(2, *shape)).astype("float32") for name, shape in shapes.items()}
    batch |= {f"{name}_padding_mask": np.ones((2, *shape[:-1]), bool) for name, shape in shapes.items()}
    logits = model(batch).numpy()
    for name in shapes:
        assert np.abs(model({**batch, name: batch[name] + 1}).numpy() - logits).min() > 1e-6
        hidden = {**batch, f"{name}_padding_mask": np.zeros_like(batch[f"{name}_padding_mask"])}
        padded = model(hidden).numpy()
        np.testing.assert_array_equal(model({**hidden, name: np.full_like(batch[name], np.nan)}), padded)


def test_a_size_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="`patch_size` must divide"):
        build_vit((7, 9, 3), 5, patch_size=4)
    with pytest.raises(InputError, match="`num_heads` must divide"):
        build_transformer((7, 9, 3), 5, width=9, num_self_attention_heads=2)
