import keras
import numpy as np
import oracle
import pytest
from layer_checks import check_layer

from keras_perceiver import ConcatenatedBytes
from keras_perceiver._checks import InputError, InputTypeError

RNG = np.random.default_rng(0)
CONTENT = RNG.normal(size=(2, 7, 3, 5)).astype("float32")
ALONG_FIRST, EVERYWHERE = (RNG.normal(size=size).astype("float32") for size in ((7, 1, 2), (7, 3, 11)))
MASK = RNG.random((2, 7, 3)) < 0.5
SEGMENT = {"content": CONTENT, "tables": [ALONG_FIRST, EVERYWHERE], "padding_mask": MASK}


def dtypes(compute):
    return ["float64" if compute == "float64" else "float32", "bool"]


@pytest.mark.parametrize("seed", [None, 3])
def test_it_is_a_layer(tmp_path, seed):
    inputs = {"segment": SEGMENT}
    check_layer(tmp_path, ConcatenatedBytes, {"permute_seed": seed}, inputs, output_dtypes=dtypes)


def rows_of(segment, seed=None):
    content = np.asarray(ConcatenatedBytes(seed)(segment)["content"])
    return content.reshape(2, 7 * 3, -1)


def test_every_byte_is_its_content_and_its_positions():
    table = np.broadcast_to(ALONG_FIRST, (7, 3, 2))
    expected = oracle.byte_rows(CONTENT, table, EVERYWHERE)
    np.testing.assert_array_equal(rows_of({"content": CONTENT, "tables": SEGMENT["tables"]}), expected)


def test_a_permutation_is_one_for_all_examples_and_carries_positions_and_masks_along():
    original, permuted = ConcatenatedBytes()(SEGMENT), ConcatenatedBytes(3)(SEGMENT)
    rows = [
        np.concatenate([np.asarray(s["content"]), np.asarray(s["padding_mask"])[..., None]], -1).reshape(2, 21, -1)
        for s in (original, permuted)
    ]
    order = [int(np.flatnonzero((rows[0][0] == row).all(axis=1))[0]) for row in rows[1][0]]
    assert sorted(order) == list(range(21))
    assert order != sorted(order)
    np.testing.assert_array_equal(rows[1], rows[0][:, order])


def test_seeds_are_different_permutations_and_each_repeats():
    assert np.any(rows_of(SEGMENT, 3) != rows_of(SEGMENT, 4))
    np.testing.assert_array_equal(rows_of(SEGMENT, 3), rows_of(SEGMENT, 3))


def test_what_cannot_be_permuted_is_refused():
    with pytest.raises(InputError, match=r"`permute_seed` must be None or an integer .*permute_seed=-1"):
        ConcatenatedBytes(-1)
    with pytest.raises(InputError, match=r"must be static where bytes are permuted.*\(None, None, 5\)"):
        ConcatenatedBytes(3)({"content": keras.Input((None, 5)), "tables": []})
    with pytest.raises(InputTypeError, match="`segment` must be a segment"):
        ConcatenatedBytes()(CONTENT)
