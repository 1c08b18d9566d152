import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_perceiver import positions


def test_coordinates_by_hand():
    np.testing.assert_array_equal(positions.coordinates(5), [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_array_equal(positions.coordinates(1), [-1])


def test_frequencies_by_hand():
    np.testing.assert_array_equal(positions.frequencies(4, 8), [1, 2, 3, 4])
    np.testing.assert_array_equal(positions.frequencies(1, 8), [1])


def test_one_axis_by_hand():
    raw, sin, cos = positions.axis_tables(3, num_bands=2, max_resolution=3)  # frequencies 1 and 1.5 at -1, 0, 1
    np.testing.assert_allclose(raw, [[-1], [0], [1]], atol=1e-15)
    np.testing.assert_allclose(sin, [[0, 1], [0, 0], [0, -1]], atol=1e-15)
    np.testing.assert_allclose(cos, [[-1, 0], [1, 1], [-1, 0]], atol=1e-15)


def test_two_axes_by_hand_in_the_papers_order():
    # Frequencies 1 and 1.5 on the first axis, 1 and 2.5 on the second.
    first_row, first_column = -1.0, -1.0
    expected = [first_row, first_column, 0, 1, 0, -1, -1, 0, -1, 0]
    np.testing.assert_allclose(full_grid((3, 2), 2, (3, 5))[0, 0], expected, atol=1e-15)
    expected = [0, 1, 0, 0, 0, 1, 1, 1, -1, 0]
    np.testing.assert_allclose(full_grid((3, 2), 2, (3, 5))[1, 1], expected, atol=1e-15)


def test_the_oracle_agrees_with_the_hand():
    np.testing.assert_allclose(
        oracle.fourier_features([0.0, 1.0], 2, (3, 5)), [0, 1, 0, 0, 0, 1, 1, 1, -1, 0], atol=1e-15
    )
    assert [oracle.coordinate(i, 5) for i in range(5)] == [-1, -0.5, 0, 0.5, 1]


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_tables_vary_along_one_axis_each(num_axes):
    tables = positions.grid_tables((7, 5, 3)[:num_axes], 11, (7, 5, 3)[:num_axes])
    shapes = [t.shape for t in tables]
    along = {1: [(7,)], 2: [(7, 1), (1, 5)], 3: [(7, 1, 1), (1, 5, 1), (1, 1, 3)]}[num_axes]
    assert shapes == [(*s, channels) for channels in (1, 11, 11) for s in along]


@given(st.lists(st.integers(1, 7), min_size=1, max_size=3), st.integers(1, 5), st.data())
@settings(max_examples=40, deadline=None)
def test_grids_equal_the_oracle(sizes, num_bands, data):
    resolution = data.draw(st.lists(st.integers(2, 50), min_size=len(sizes), max_size=len(sizes)))
    np.testing.assert_allclose(
        full_grid(sizes, num_bands, resolution), oracle.fourier_grid(sizes, num_bands, resolution), atol=1e-10
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_points_equal_the_oracle(dtype, tolerance):
    points = np.random.default_rng(0).uniform(-1, 1, (2, 7, 3)).astype(dtype)
    features = np.asarray(positions.point_features(points, 5, (11, 13, 17)))
    expected = [[oracle.fourier_features(point, 5, (11, 13, 17)) for point in cloud] for cloud in points]
    assert features.dtype == dtype
    np.testing.assert_allclose(features, expected, atol=tolerance)


def test_points_on_a_grid_have_the_features_of_the_grid():
    points = np.stack(np.meshgrid(*map(positions.coordinates, (3, 5)), indexing="ij"), axis=-1)[None]
    np.testing.assert_allclose(positions.point_features(points, 7, (3, 5))[0], full_grid((3, 5), 7, (3, 5)), atol=1e-12)


def test_the_highest_frequency_alternates_at_nyquist():
    _, _, cos = positions.axis_tables(225, num_bands=64, max_resolution=224)  # samples 2/μ apart, frequency μ/2
    np.testing.assert_allclose(cos[:, -1], (-1.0) ** np.arange(225), atol=1e-9)


def full_grid(sizes, num_bands, max_resolution):
    tables = positions.grid_tables(sizes, num_bands, max_resolution)
    return np.concatenate([np.broadcast_to(t, (*sizes, t.shape[-1])) for t in tables], axis=-1)
