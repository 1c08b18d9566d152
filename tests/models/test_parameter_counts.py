"""The sizes of the paper's models, to the last digit (appendix C and table 7)."""

import pytest
from layer_checks import shapes_only

from keras_perceiver import build_classifier, build_encoder, build_preset


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ({}, 44_912_254),
        ({"share_weights": False}, 326_241_856),
        ({"num_cross_attends": 1}, 42_135_859),
        ({"cross_attend_placement": "start"}, 44_912_254),
        *(
            (
                {
                    "num_blocks": cross_attends,
                    "num_cross_attends": cross_attends,
                    "num_self_attention_layers": 0,
                    "share_weights": False,
                },
                parameters,
            )
            for cross_attends, parameters in ((4, 12_654_868), (8, 23_760_448), (12, 34_866_028))
        ),
    ],
    ids=["shared", "unshared", "one cross-attend", "all at the start", "4 crosses", "8 crosses", "12 crosses"],
)
def test_imagenet_models(arguments, parameters):
    with shapes_only():
        assert build_classifier((224, 224, 3), 1000, **arguments).count_params() == parameters


def test_the_parts_of_the_imagenet_model():
    with shapes_only():
        model = build_preset("imagenet")
        assert model.count_params() == 44_912_254
        assert model.get_layer("cross_attention_1").count_params() == 2_776_395
        assert model.get_layer("cross_attention_2").count_params() == 2_776_395
        assert model.get_layer("latent_transformer_1").count_params() == 37_810_176
        assert model.get_layer("latent_array").count_params() == 512 * 1024
        assert model.get_layer("logits").count_params() == 1024 * 1000 + 1000


def test_learned_positions_add_a_table():
    with shapes_only():
        model = build_encoder((224, 224, 3), positions="learned", num_cross_attends=1)
        assert model.get_layer("inputs_positions").count_params() == 224 * 224 * 128


def test_the_width_of_audio_and_video():
    """Section 1 of the paper's facts: 487 channels once both modalities are padded."""
    with shapes_only():
        model = build_encoder(
            {"video": (16, 28, 28, 384), "audio": (480, 128)},
            num_bands=16,
            latent_dim=512,
            num_blocks=2,
            num_cross_attends=2,
            num_self_attention_layers=8,
            share_weights=False,
        )
        assert model.get_layer("cross_attention_1").byte_norm.gamma.shape == (487,)


def test_shapes_only_leaves_nothing_behind():
    with shapes_only():
        pending = build_encoder((7, 3), num_latents=3, latent_dim=8, num_blocks=1, num_cross_attends=1)
    later = build_encoder((7, 3), num_latents=3, latent_dim=8, num_blocks=1, num_cross_attends=1)
    assert pending.weights[0]._value is None
    assert later.weights[0]._value is not None


def test_the_width_of_clouds_with_the_papers_positions():
    """3 coordinates and 64 bands up to the frequency 1120, sines and cosines: 3 (2 · 64 + 1) = 387 channels."""
    arguments = {"positions": "coordinates", "num_bands": 64, "max_resolution": 2240, "num_blocks": 2}
    arguments |= {"num_cross_attends": 2, "latent_dim": 512, "num_latents": 128}
    with shapes_only():
        model = build_encoder((2048, 3), **arguments)
        assert model.get_layer("cross_attention_1").byte_norm.gamma.shape == (387,)
        with_colors = build_encoder((2048, 6), **arguments)
        assert with_colors.get_layer("cross_attention_1").byte_norm.gamma.shape == (390,)
        assert build_preset("points").count_params() == build_preset("points", input_shape=(5, 3)).count_params()
