import numpy as np
from layer_checks import check_layer

from keras_perceiver import ByteNormalization
from keras_perceiver.attention import at_least_float32
from keras_perceiver.byte_arrays import materialize

RNG = np.random.default_rng(5)
TABLES = [RNG.normal(size=(7, 1, 3)), RNG.normal(size=(1, 5, 2)), RNG.normal(size=(1, 1, 4))]


def segment(offset=0.0):
    content = offset + RNG.normal(size=(2, 7, 5, 3))
    return {"content": content.astype("float32"), "tables": [table.astype("float32") for table in TABLES]}


def test_it_is_a_layer(tmp_path):
    def dtypes(compute):
        return ["float32", at_least_float32(compute), *["float32"] * len(TABLES)]  # content, normalized, tables

    check_layer(tmp_path, ByteNormalization, {}, {"byte_array": segment()}, output_dtypes=dtypes)


def test_it_is_the_layer_norm_of_the_byte_array_in_factors():
    found = segment()
    normalized = np.asarray(ByteNormalization()(found)["normalized"], "float64")
    rows = np.asarray(materialize(found, "float64")[0]).reshape(2, 7, 5, 12)
    mean, std = rows.mean(axis=-1), np.sqrt(rows.var(axis=-1) + 1e-5)
    centred = rows[..., :3] - mean[..., None]
    expected = [channel / std[..., None] for channel in (centred, -mean[..., None], np.ones_like(mean[..., None]))]
    np.testing.assert_allclose(normalized, np.concatenate(expected, axis=-1), rtol=1e-5, atol=1e-6)


def test_a_large_offset_costs_no_precision():
    found = segment(offset=1e4)
    normalized = np.asarray(ByteNormalization()(found)["normalized"], "float64")
    rows = np.asarray(materialize(found, "float64")[0]).reshape(2, 7, 5, 12)
    expected = (rows[..., :3] - rows.mean(axis=-1, keepdims=True)) / np.sqrt(rows.var(axis=-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(normalized[..., :3], expected, rtol=1e-5)
