import keras
import numpy as np
import oracle
import pytest
from layer_checks import check_layer, randomised

from keras_perceiver import LearnedPositions, byte_arrays
from keras_perceiver._checks import InputError, InputTypeError

RNG = np.random.default_rng(0)
CONTENT = RNG.normal(size=(2, 7, 3, 5)).astype("float32")
MASK = RNG.random((2, 7, 3)) < 0.5


def dtypes(compute):  # content and mask as they came, the table at least in float32
    return ["float32", "bool", "float64" if compute == "float64" else "float32"]


def test_it_is_a_layer(tmp_path):
    arguments = {"num_channels": 11, "initial_std": 0.5}
    inputs = {"content": CONTENT, "padding_mask": MASK}
    check_layer(tmp_path, LearnedPositions, arguments, inputs, output_dtypes=dtypes)


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_each_position_has_its_vector(num_axes):
    content = RNG.normal(size=(*(2, 7, 3, 2)[: 1 + num_axes], 5)).astype("float32")
    layer = randomised(LearnedPositions(11, name="layer"), {"content": content})
    table = oracle.weights_of(layer)["position_table"]
    assert table.shape == (*(7, 3, 2)[:num_axes], 11)
    rows, _ = byte_arrays.materialize(layer(content), "float32")
    np.testing.assert_allclose(rows, oracle.byte_rows(content, table), atol=1e-6)


def test_initial_values_have_the_papers_scale():
    layer = LearnedPositions(128)
    layer(np.zeros((1, 53, 59, 3), "float32"))
    values = np.asarray(layer.position_table)
    assert 1.99 < np.abs(values).max() <= 2  # 1.0 before truncation at two deviations,
    np.testing.assert_allclose(values.std(), 0.8796, atol=0.005)  # which leaves 0.88 of it
    assert abs(values.mean()) < 0.01


def test_axes_must_be_static():
    with pytest.raises(InputError, match=r"`content` must have the static shape .*content_shape=\(None, None, 5\)"):
        LearnedPositions(11)(keras.Input((None, 5)))


def test_content_without_index_axes_is_refused():
    with pytest.raises(InputError, match="`content` must have the static shape"):
        LearnedPositions(11)(CONTENT[:, 0, 0])


def test_the_mask_must_be_boolean():
    with pytest.raises(InputTypeError, match="`padding_mask` must be boolean"):
        LearnedPositions(11)(CONTENT, padding_mask=MASK.astype("int32"))
