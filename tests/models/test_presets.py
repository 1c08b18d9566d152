import inspect
import itertools
import math

import keras
import pytest
from layer_checks import shapes_only

from keras_perceiver import build_encoder, build_preset
from keras_perceiver._checks import InputError
from keras_perceiver.models import PRESETS, PROVENANCE
from keras_perceiver.models.presets import modality_of, paper_options, preset_arguments


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds(name):
    with shapes_only():
        model = build_preset(name)
        assert model.output.shape == (None, PRESETS[name]["num_classes"])


def test_arguments_can_be_replaced():
    with shapes_only():
        model = build_preset("digits", num_classes=7, input_shape=(5, 5, 3), name="mine")
    assert model.name == "mine"
    assert model.output.shape == (None, 7)
    assert model.input.shape == (None, 5, 5, 3)
    assert PRESETS["digits"]["num_classes"] == 10


def test_patches_take_the_place_of_a_stem_unless_both_are_asked_for():
    with shapes_only():
        names = [layer.name for layer in build_preset("image", patch_size=4).layers]
        assert "inputs_patches" in names
        assert "inputs_stem_1" not in names
    with pytest.raises(InputError, match="must not both be given"):
        build_preset("image", patch_size=4, stem="conv")
    names = [layer.name for layer in build_preset("video", stem="conv").layers]
    assert "inputs_stem_1" in names
    assert "inputs_patches" not in names


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, ({"audio": "conv"}, {"video": (2, 8, 8)})),
        ({"patch_size": {"video": 4}}, ({"audio": "conv"}, {"video": 4})),
        ({"patch_size": {"video": 4, "audio": 2}}, (None, {"video": 4, "audio": 2})),
        ({"patch_size": 4}, (None, 4)),
        ({"stem": {"video": "conv"}}, ({"video": "conv"}, None)),
        ({"stem": {"video": None}}, ({"video": None}, {"video": (2, 8, 8)})),
        ({"stem": "conv"}, ("conv", None)),
        ({"stem_channels": 32}, ({"audio": "conv"}, {"video": (2, 8, 8)})),
    ],
)
def test_of_several_modalities_those_alone_change_what_stands_in_front_for_which_something_is_given(
    overrides, expected
):
    arguments = preset_arguments("audio_video", overrides)
    assert (arguments["stem"], arguments["patch_size"]) == expected


def test_an_override_that_is_not_known_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"`override` must be one of .*Did you mean 'num_latents'"):
        build_preset("tiny", num_latent=3)


def test_everything_comes_from_somewhere_and_choices_are_of_arguments():
    assert set(PROVENANCE) == set(PRESETS)
    known = set(inspect.signature(build_encoder).parameters) | {"num_classes"}
    for name, provenance in PROVENANCE.items():
        assert provenance.source
        assert set(provenance.choices) <= known, name
        assert set(PRESETS[name]) <= known, name


@pytest.mark.parametrize(
    ("name", "length", "channels"),
    [
        ("imagenet", 50_176, 261),
        ("imagenet_learned", 50_176, 131),
        ("imagenet_permuted", 50_176, 261),
        ("audioset_raw", 480, 257),
        ("audioset_mel", 4_800, 130),
        ("audioset_video", 12_544, 483),
        ("audioset_audio_video", 13_024, 487),
        ("modelnet40", 2_048, 387),
    ],
)
def test_byte_arrays_are_the_papers(name, length, channels):
    """480 and 4,800 inputs of sound, 12,544 of video, 13,024 of both in 487 channels, as in section 4.2."""
    with shapes_only():
        model = build_preset(name)
        parts = [tuple(x.shape) for x in keras.tree.flatten(model.get_layer("byte_normalization").output)]
        # In each segment the normalised content follows the content, with two channels more.
        contents = [x for x, y in itertools.pairwise(parts) if y == (*x[:-1], x[-1] + 2)]
        assert sum(math.prod(shape[1:-1]) for shape in contents) == length
        assert model.get_layer("cross_attention_1").byte_norm.gamma.shape == (channels,)


def test_all_models_of_audioset_share_nothing_and_have_their_papers_size():
    """2 cross-attends and 2 latent Transformers of 8 layers, each with weights of its own."""
    with shapes_only():
        model = build_preset("audioset_audio_video")
        attention = 512 * 512 * 4 + 512 * 4
        layer = attention + 2 * (512 * 512 + 512) + 4 * 512
        assert model.get_layer("latent_transformer_2").count_params() == 8 * layer
        widest = 512 * 487 + 487 + 2 * (487 * 487 + 487) + 487 * 512 + 512  # query, key, value, output
        cross = widest + 2 * (512 * 512 + 512) + 2 * 512 * 2 + 2 * 487  # the MLP, and three LayerNorms
        assert model.get_layer("cross_attention_2").count_params() == cross
        vectors = (487 - 161) + (487 - 483)
        assert model.count_params() == 2 * (8 * layer + cross) + 512 * 512 + 512 * 527 + 527 + vectors


def test_modalities_and_sizes_are_told_by_the_inputs():
    assert [modality_of(PRESETS[name]["input_shape"]) for name in ("imagenet", "audioset_video", "audioset_raw")] == [
        "image",
        "video",
        "audio",
    ]
    assert modality_of(PRESETS["audioset_audio_video"]["input_shape"]) == "audio_video"
    frames = {"num_frames": 32, "frame_size": (224, 224)}
    samples = {"sample_rate": 48_000, "clip_seconds": 1.28}
    assert paper_options("imagenet_learned") == ({"image_size": (224, 224)}, {})
    assert paper_options("audioset_video") == (frames | {"frame_rate": 25}, {})
    assert paper_options("modelnet40") == ({"num_points": 2048}, {})
    assert paper_options("audioset_raw") == (samples, {"audio_input": "raw"})
    assert paper_options("audioset_mel") == (samples, {"num_mel_bins": 80, "mel_hop": 1024})
    assert paper_options("audioset_audio_video") == (frames | samples, {"audio_input": "raw"})


def test_names_that_are_not_known_are_refused():
    with pytest.raises(InputError, match=r"`preset` must be one of .*preset='imagnet'\. Did you mean 'imagenet'"):
        build_preset("imagnet")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"positions": "none", "num_bands": 3},
            r"`num_bands` must be given with `positions` 'fourier' or 'coordinates'",
        ),
        ({"positions": "learned", "max_resolution": 3}, "`max_resolution` must be given with .*positions='learned'"),
        ({"position_channels": 7}, "`position_channels` must be given with `positions` 'learned' alone"),
        ({"patch_size": 2, "num_stem_layers": 1}, "`num_stem_layers` must be given with `stem` 'conv'.*stem=None"),
        ({"patch_size": 2, "stem": "conv"}, "`patch_size` and `stem` must not both be given"),
        ({"num_cross_attends": 3}, "`num_cross_attends` must be at most `num_blocks`"),
    ],
)
def test_overrides_that_contradict_each_other_are_refused(overrides, message):
    with pytest.raises(InputError, match=message):
        build_preset("image", **overrides)
