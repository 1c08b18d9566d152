import keras
import numpy as np
import oracle
import pytest
from keras import ops
from layer_checks import check_layer

from keras_perceiver import FourierPositions, byte_arrays
from keras_perceiver._checks import InputError, InputTypeError

RNG = np.random.default_rng(0)
CONTENT = RNG.normal(size=(2, 7, 3, 5)).astype("float32")
POINTS = RNG.uniform(-1, 1, (2, 7, 3)).astype("float32")
MASK = RNG.random((2, 7, 3)) < 0.5


def at_least_float32(compute):
    return compute if compute == "float64" else "float32"


@pytest.mark.parametrize(
    ("arguments", "inputs", "kept"),
    [
        ({"num_bands": 11, "max_resolution": None}, {"content": CONTENT}, ["float32"]),
        ({"num_bands": 11, "max_resolution": 13}, {"content": CONTENT}, ["float32"]),
        (
            {"num_bands": 11, "max_resolution": (13, 17)},
            {"content": CONTENT, "padding_mask": MASK},
            ["float32", "bool"],
        ),
    ],
    ids=["own lengths", "one resolution", "each axis, masked"],
)
def test_it_is_a_layer_on_grids(tmp_path, arguments, inputs, kept):
    def dtypes(compute):  # content and mask as they came, six tables
        return [kept[0], *kept[1:], *[at_least_float32(compute)] * 6]

    check_layer(tmp_path, FourierPositions, arguments, inputs, output_dtypes=dtypes)


def test_it_is_a_layer_on_clouds(tmp_path):
    inputs = {"content": CONTENT[:, :, 0], "coordinates": POINTS}
    arguments = {"num_bands": 5, "max_resolution": 13}
    check_layer(
        tmp_path, FourierPositions, arguments, inputs, output_dtypes=lambda compute: [at_least_float32(compute)]
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_grids_equal_the_oracle(num_axes, dtype, tolerance):
    content = RNG.normal(size=(*(2, 7, 3, 2)[: 1 + num_axes], 5)).astype(dtype)
    resolution = (13, 17, 19)[:num_axes]
    segment = FourierPositions(11, resolution, dtype=dtype)(content)
    rows, _ = byte_arrays.materialize(segment, dtype)
    expected = oracle.byte_rows(content, oracle.fourier_grid(content.shape[1:-1], 11, resolution))
    np.testing.assert_allclose(rows, expected, atol=tolerance)


def test_a_grid_takes_its_lengths_as_resolutions():
    rows, _ = byte_arrays.materialize(FourierPositions(11)(CONTENT), "float32")
    np.testing.assert_allclose(rows, oracle.byte_rows(CONTENT, oracle.fourier_grid((7, 3), 11, (7, 3))), atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_clouds_equal_the_oracle(dtype, tolerance):
    segment = FourierPositions(11, (13, 17, 19), dtype=dtype)(CONTENT[:, :, 0], coordinates=POINTS)
    features = [[oracle.fourier_features(point, 11, (13, 17, 19)) for point in cloud] for cloud in POINTS]
    expected = np.concatenate([CONTENT[:, :, 0], features], axis=-1)
    np.testing.assert_allclose(segment["content"], expected, atol=tolerance)
    assert segment["tables"] == []


def test_a_cloud_need_not_have_a_static_length():
    content, coordinates = keras.Input((None, 5)), keras.Input((None, 3))
    segment = FourierPositions(11, 13)(content, coordinates=coordinates)
    assert segment["content"].shape == (None, None, 5 + 3 * 23)


@pytest.mark.parametrize("policy", ["bfloat16", "float16", "mixed_bfloat16"])
def test_tables_are_exact_under_every_policy(policy):
    exact = FourierPositions(64, 224)(np.zeros((1, 224, 3), "float32"))["tables"]
    found = FourierPositions(64, 224, dtype=policy)(ops.zeros((1, 224, 3), "bfloat16"))["tables"]
    for a, b in zip(found, exact, strict=True):
        np.testing.assert_array_equal(a, b)


def test_half_precision_coordinates_are_widened_first():
    points = ops.cast(POINTS, "bfloat16")
    segment = FourierPositions(8, 16, dtype="bfloat16")(ops.zeros((2, 7, 5), "bfloat16"), coordinates=points)
    exact = [[oracle.fourier_features(p, 8, (16,) * 3) for p in cloud] for cloud in np.asarray(points, "float64")]
    np.testing.assert_allclose(segment["content"][..., 5:], exact, atol=1e-5)


def test_the_mask_is_handed_on():
    np.testing.assert_array_equal(FourierPositions(2)(CONTENT, padding_mask=MASK)["padding_mask"], MASK)


@pytest.mark.parametrize("value", ["high", 0, -3, True, (7, "high"), float("nan"), float("inf")], ids=str)
def test_resolutions_are_checked_at_once(value):
    with pytest.raises(InputError, match=r"`max_resolution` must be a finite number above 0\. Received: max_res"):
        FourierPositions(2, value)


def test_one_resolution_per_axis():
    with pytest.raises(InputError, match=r"one number per axis.*max_resolution=\(7, 3, 2\), number_of_axes=2"):
        FourierPositions(2, (7, 3, 2))(CONTENT)
    with pytest.raises(InputError, match=r"one number per axis.*number_of_axes=3"):
        FourierPositions(2, (7, 3))(CONTENT[:, :, 0], coordinates=POINTS)


def test_a_cloud_needs_a_resolution():
    with pytest.raises(InputError, match="`max_resolution` must be given"):
        FourierPositions(2)(CONTENT[:, :, 0], coordinates=POINTS)


@pytest.mark.parametrize("shape", [(None, 7), (None,)], ids=str)
def test_a_grid_must_be_static(shape):
    with pytest.raises(InputError, match="`content` must have the static shape"):
        FourierPositions(2)(keras.Input((*shape, 5)))


def test_content_without_index_axes_is_refused():
    with pytest.raises(InputError, match="`content` must have the static shape"):
        FourierPositions(2)(CONTENT[:, 0, 0])


def test_the_mask_must_be_boolean():
    with pytest.raises(InputTypeError, match="`padding_mask` must be boolean"):
        FourierPositions(2)(CONTENT, padding_mask=MASK.astype("float32"))
