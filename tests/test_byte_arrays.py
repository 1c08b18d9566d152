import numpy as np
import oracle
import pytest

from keras_perceiver import byte_arrays
from keras_perceiver._checks import InputError, InputTypeError

RNG = np.random.default_rng(0)


def segment(sizes=(7, 3), content_channels=5, table_shapes=((7, 1, 2), (1, 3, 11)), mask=False):
    found = {
        "content": RNG.normal(size=(2, *sizes, content_channels)),
        "tables": [RNG.normal(size=shape) for shape in table_shapes],
    }
    if mask:
        found["padding_mask"] = RNG.random((2, *sizes)) < 0.5
    return found


def shapes(found):
    return {"content": found["content"].shape, "tables": [t.shape for t in found["tables"]]} | (
        {"padding_mask": found["padding_mask"].shape} if "padding_mask" in found else {}
    )


def oracle_rows(found):
    sizes = found["content"].shape[1:-1]
    return oracle.byte_rows(found["content"], *(np.broadcast_to(t, (*sizes, t.shape[-1])) for t in found["tables"]))


def test_materialize_by_hand():
    content = np.array([[[[1.0]], [[2.0]]]])  # (1, 2, 1, 1)
    tables = [np.array([[[10.0]], [[20.0]]]), np.array([[[5.0, 6.0]]])]
    rows, mask = byte_arrays.materialize({"content": content, "tables": tables}, "float64")
    np.testing.assert_array_equal(rows, [[[1, 10, 5, 6], [2, 20, 5, 6]]])
    assert mask is None


@pytest.mark.parametrize(
    "found",
    [
        segment((7,), 5, ((7, 2),)),
        segment(),
        segment((7, 3, 2), 5, ((7, 1, 1, 2), (1, 3, 1, 3), (1, 1, 2, 7), (7, 3, 2, 11), (1, 1, 1, 13))),
        segment(table_shapes=()),
    ],
    ids=["one axis", "two axes", "three axes", "no tables"],
)
def test_rows_are_content_then_tables_in_row_major_order(found):
    rows, _ = byte_arrays.materialize(found, "float64")
    np.testing.assert_array_equal(rows, oracle_rows(found))


def test_modalities_stand_behind_one_another_by_name():
    video, audio = segment(), segment((5,), 7, ((5, 11),), mask=True)
    rows, mask = byte_arrays.materialize({"video": video, "audio": audio}, "float64")
    expected = np.concatenate([oracle_rows(audio), oracle_rows(video)], axis=1)
    np.testing.assert_array_equal(np.asarray(rows)[np.asarray(mask)], expected[np.asarray(mask)])
    np.testing.assert_array_equal(mask, np.concatenate([audio["padding_mask"], np.ones((2, 21), bool)], axis=1))


def test_a_mask_is_flattened_like_its_rows():
    found = segment(mask=True)
    _, mask = byte_arrays.materialize(found, "float64")
    np.testing.assert_array_equal(mask, found["padding_mask"].reshape(2, 21))


def test_a_tensor_is_a_byte_array():
    array = RNG.normal(size=(2, 7, 5))
    rows, mask = byte_arrays.materialize(array, "float64")
    np.testing.assert_array_equal(rows, array)
    assert mask is None
    assert byte_arrays.num_channels(array.shape) == 5


def test_channels_are_counted():
    assert byte_arrays.num_channels(shapes(segment())) == 5 + 2 + 11
    assert byte_arrays.num_channels({"a": shapes(segment()), "b": shapes(segment((2,), 18, ()))}) == 18


def test_modalities_of_different_width_are_refused():
    with pytest.raises(InputError, match=r"'a': 18, 'b': 17.*`ModalityEncoding`"):
        byte_arrays.num_channels({"a": shapes(segment()), "b": shapes(segment((2,), 17, ()))})


def test_an_unknown_batch_and_length_fit_everything():
    found = {"content": (None, None, 5), "tables": [(7, 2)], "padding_mask": (None, None)}
    assert byte_arrays.num_channels(found) == 7


@pytest.mark.parametrize(
    ("found", "rule"),
    [
        ({"content": (2, 7), "tables": []}, "`content` must have the shape"),
        ({"content": (2, 7, None), "tables": []}, "`content` must have the shape"),
        ({"content": (2, 7, 5), "tables": [(3, 11)]}, "Every table must have the shape"),
        ({"content": (2, 7, 5), "tables": [(2, 7, 11)]}, "Every table must have the shape"),
        ({"content": (2, 7, 5), "tables": [], "padding_mask": (2, 3)}, "`padding_mask` must have the shape"),
        ({"content": (2, 7, 5), "tables": [], "padding_mask": (2, 7, 1)}, "`padding_mask` must have the shape"),
        ({"content": (2, 7, 5), "tables": [], "mask": (2, 7)}, r"A segment holds only .* unknown=\['mask'\]"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(found, rule):
    with pytest.raises(InputError, match=rule):
        byte_arrays.num_channels(found)


def test_the_modality_is_named():
    with pytest.raises(InputError, match="Every table of modality 'audio'"):
        byte_arrays.num_channels({"audio": {"content": (2, 7, 5), "tables": [(3, 11)]}})


@pytest.mark.parametrize("structure", [{}, {"x": np.zeros((2, 7, 5))}, {"tables": []}])
def test_what_is_no_byte_array_is_refused(structure):
    with pytest.raises(InputTypeError, match="`byte_array` must be"):
        byte_arrays.segments(structure)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_masks_must_be_boolean(dtype):
    found = segment() | {"padding_mask": np.ones((2, 7, 3), dtype)}
    with pytest.raises(InputTypeError, match=f"of modality 'x' must be boolean.*Received: dtype='{dtype}'"):
        byte_arrays.check_masks({"x": found})
    byte_arrays.check_masks(segment(mask=True))


def test_tables_are_added_behind_without_touching_the_original():
    found = segment(table_shapes=((7, 1, 2),))
    longer = byte_arrays.with_tables(found, [np.zeros((1, 1, 3))])
    assert [t.shape for t in longer["tables"]] == [(7, 1, 2), (1, 1, 3)]
    assert len(found["tables"]) == 1


def test_nothing_is_left_behind_a_mask():
    found = segment(mask=True)
    found["content"][~found["padding_mask"]] = np.nan
    rows, mask = byte_arrays.materialize(found, "float64")
    content = np.where(found["padding_mask"][..., None], found["content"], 0).reshape(2, 21, 5)
    np.testing.assert_array_equal(np.asarray(rows)[..., :5], content)
    assert np.isfinite(rows).all()
    assert not np.all(mask)
