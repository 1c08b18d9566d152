"""The arms of every question: what they vary, and that they vary nothing else."""

import inspect

import pytest

from keras_perceiver._checks import InputError
from keras_perceiver.data.source import slug
from keras_perceiver.models import NETWORKS, PRESETS, build_encoder
from keras_perceiver.models.presets import preset_arguments
from keras_perceiver.studies import QUESTIONS
from keras_perceiver.studies.questions import affordable_patch, divisors_from

GRIDS = {
    "image": {"": (16, 16)},
    "digits": {"": (8, 8)},
    "audio": {"": (24, 16)},
    "video": {"": (8, 8, 8)},
    "points": {"": (2048,)},
    "audio_video": {"audio": (24, 16), "video": (8, 8, 8)},
}
ONE_MODALITY = {"inputs", "baselines"}


def arms_of(question, preset):
    parameters = inspect.signature(build_encoder).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return QUESTIONS[question].arms({**defaults, **PRESETS[preset]}, GRIDS[preset])


@pytest.mark.parametrize("preset", GRIDS)
@pytest.mark.parametrize("question", QUESTIONS)
def test_arms_have_folders_of_their_own_and_settings_that_their_network_knows(question, preset):
    if preset == "audio_video" and question in ONE_MODALITY:
        with pytest.raises(InputError, match=f"'{question}' can be asked of data of one modality.*'audio_video'"):
            arms_of(question, preset)
        return
    arms = arms_of(question, preset)
    assert len(arms) >= 3
    assert len({slug(name) for name in arms}) == len(arms)
    assert len({repr(arm) for arm in arms.values()}) == len(arms)
    for arm in arms.values():
        builder = build_encoder if arm.network == "perceiver" else NETWORKS[arm.network]
        assert arm.model.keys() <= inspect.signature(builder).parameters.keys()
        assert None not in arm.model.values()  # `train` takes None for "not given"


def test_each_network_is_permuted_and_nothing_else_changes():
    arms = arms_of("permutation", "image")
    assert {arm.network for arm in arms.values()} == {"perceiver", "resnet18", "vit", "transformer"}
    assert {arm.network for arm in arms_of("permutation", "points").values()} == {
        "perceiver",
        "pointnet",
        "transformer",
    }
    both = arms_of("permutation", "audio_video").values()
    assert {arm.network for arm in both} == {"perceiver"}
    for arm in both:  # no convolution looks at neighbours of the sound; what is moved of a film is its patches
        built = preset_arguments("audio_video", arm.model)
        assert (built["stem"], built["patch_size"]) == ({}, {"video": (2, 8, 8)})
    for name, arm in arms.items():
        if name.endswith(", permuted"):
            other = arms[name.removesuffix(", permuted")]
            assert arm.network == other.network
            assert arm.model == {**other.model, "permute_seed": 0}
        if arm.network == "perceiver":
            built = preset_arguments("image", arm.model)
            assert (built["stem"], built.get("patch_size")) == ({}, None)  # no convolution sees the neighbours
        else:
            assert "stem" not in arm.model
            assert arm.model["num_bands"] == PRESETS["image"]["num_bands"]


def test_of_clouds_bands_and_highest_frequency_go_up_and_down_from_those_of_the_preset():
    arms = {name: arm.model for name, arm in arms_of("positions", "points").items()}
    assert arms == {
        "4 bands": {"num_bands": 4},
        "2 bands": {"num_bands": 2},
        "16 bands": {"num_bands": 16},
        "4 bands, a quarter of the highest frequency": {"num_bands": 4, "max_resolution": 2},
        "4 bands, four times the highest frequency": {"num_bands": 4, "max_resolution": 32},
        "none but the coordinates": {"positions": "none"},
    }


def test_bands_reach_the_nyquist_frequency_of_each_axis():
    arms = arms_of("positions", "audio")
    assert arms["8 bands"].model["max_resolution"] == [24, 16]
    assert arms["8 bands, up to half the Nyquist frequency"].model["max_resolution"] == [12, 8]
    both = arms_of("positions", "audio_video")["8 bands, up to half the Nyquist frequency"].model
    assert both["max_resolution"] == {"audio": [12, 8], "video": [4, 4, 4]}
    assert [arm.model["positions"] for arm in arms.values()][-2:] == ["learned", "none"]
    assert not any("positions" in arm.model for arm in list(arms_of("positions", "points").values())[:-1])


def test_inputs_grow_from_large_patches_to_single_elements():
    assert [arm.model["patch_size"] for arm in arms_of("inputs", "digits").values()] == [1, 2, 4]
    assert [arm.source["num_points"] for arm in arms_of("inputs", "points").values()] == [2048, 1024, 512, 256]


def test_patches_that_cannot_be_the_same_along_all_axes_differ():
    base = {"input_shape": (16, 30, 3), "stem": None}
    sizes = {name: arm.model["patch_size"] for name, arm in QUESTIONS["inputs"].arms(base, None).items()}
    assert sizes == {"single elements": 1, "patches of 2": 2, "patches of 4x5": [4, 5], "patches of 8x10": [8, 10]}


@pytest.mark.parametrize(
    ("axes", "least", "most", "patch"),
    [
        ((8, 8), 2, 64, 2),
        ((28, 28), 2, 64, 4),
        ((28, 28), 1, 256, 2),
        ((64, 64), 2, 64, 8),
        ((7, 5), 2, 64, [7, 5]),
        ((96, 64), 1, 256, [6, 8]),
        ((16, 64, 64), 2, 64, 16),
    ],
)
def test_patches_divide_and_are_few_enough(axes, least, most, patch):
    assert affordable_patch(axes, least, most) == patch


def test_divisors():
    assert divisors_from(5, (96, 64, 3)) == (6, 8, 3)
