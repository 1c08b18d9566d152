import keras
import numpy as np
import pytest

from keras_perceiver._checks import InputError
from keras_perceiver.models import build_resnet18


def test_at_full_width_it_has_the_parameters_of_its_paper():
    """ResNet-18 of He et al. 2016 for 224x224 pictures: 11,689,512 parameters that are trained, in every framework."""
    model = build_resnet18((224, 224, 3), 1000, width=64)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 11_689_512


def test_small_pictures_keep_their_pixels_up_to_the_first_block_and_large_ones_do_not():
    small, large = build_resnet18((29, 31, 1), 3, width=2), build_resnet18((131, 128, 1), 3, width=2)
    assert small.get_layer("stage_1_block_1_output").output.shape == (None, 29, 31, 2)
    assert large.get_layer("stage_1_block_1_output").output.shape == (None, 33, 32, 2)
    assert small.get_layer("stage_4_block_2_output").output.shape == (None, 4, 4, 16)


def test_logits_depend_on_every_part_of_the_picture():
    model = build_resnet18((23, 29, 3), 5, width=3)
    pictures = np.random.default_rng(0).normal(size=(1, 23, 29, 3)).astype("float32")
    for row, column in ((0, 0), (22, 28), (11, 13)):
        changed = pictures.copy()
        changed[0, row, column] += 3
        assert np.abs(np.asarray(model(changed) - model(pictures))).max() > 1e-6


def test_a_policy_reaches_every_layer_and_logits_stay_float32():
    model = build_resnet18((8, 8, 1), 3, width=2, dtype="mixed_bfloat16")
    assert {layer.compute_dtype for layer in model.layers[1:-1]} == {"bfloat16"}
    assert model.output.dtype == "float32"
    assert model.dtype_policy == keras.DTypePolicy("mixed_bfloat16")


@pytest.mark.parametrize("shape", [(8, 1), (8, 8, 8, 1), {"image": (8, 8, 1)}])
def test_only_pictures_enter(shape):
    with pytest.raises(InputError, match="made for pictures"):
        build_resnet18(shape, 3)
