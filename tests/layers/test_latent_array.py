import keras
import numpy as np
import pytest
from layer_checks import check_layer

from keras_perceiver import LatentArray
from keras_perceiver._checks import InputTypeError

BYTES = np.zeros((2, 7, 5), "float32")


def test_it_is_a_layer(tmp_path):
    arguments = {"num_latents": 3, "latent_dim": 11, "initial_std": 0.5}
    check_layer(tmp_path, LatentArray, arguments, {"byte_array": BYTES})


def test_initial_values_are_the_papers():
    layer = LatentArray(512, 1024)
    layer(BYTES)
    values = np.asarray(layer.latent_array)
    assert values.shape == (512, 1024)
    assert 0.0399 < np.abs(values).max() <= 0.04
    np.testing.assert_allclose(values.std(), 0.0176, atol=1e-4)
    assert abs(values.mean()) < 1e-4


def test_every_example_starts_from_the_same_latents_which_differ():
    latents = np.asarray(LatentArray(3, 11)(BYTES))
    np.testing.assert_array_equal(latents[0], latents[1])
    assert len({row.tobytes() for row in latents[0]}) == 3


@pytest.mark.parametrize(
    "byte_array",
    [
        {"content": BYTES, "tables": []},
        {"b": {"content": BYTES, "tables": []}, "a": {"content": BYTES[:, :3], "tables": []}},
    ],
    ids=["segment", "modalities"],
)
def test_it_takes_any_byte_array(byte_array):
    assert LatentArray(3, 11)(byte_array).shape == (2, 3, 11)


def test_an_open_batch_stays_open():
    assert LatentArray(3, 11)(keras.Input((None, 5))).shape == (None, 3, 11)


def test_what_is_no_byte_array_is_refused():
    with pytest.raises(InputTypeError, match="`byte_array` must be"):
        LatentArray(3, 11)({"content_of": BYTES})
