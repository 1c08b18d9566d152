import pytest
from layer_checks import shapes_only

from keras_perceiver import build_preset
from keras_perceiver._checks import InputError
from keras_perceiver.models import PRESETS


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


def test_names_that_are_not_known_are_refused():
    with pytest.raises(InputError, match=r"`preset` must be one of .*preset='imagnet'\. Did you mean 'imagenet'"):
        build_preset("imagnet")
