"""Reading meshes and clouds, and what stands in front of a model of points."""

import numpy as np
import pytest
import tensorflow as tf
from fuzz_points import SOLID, TETRAHEDRON, as_npy, as_off
from matplotlib.figure import Figure

from keras_perceiver._checks import InputError
from keras_perceiver.data.point_files import load_cloud
from keras_perceiver.data.points import (
    choose_points_shape,
    draw_points,
    points_notes,
    preprocess_points,
    read_points,
    sample_points,
    scan_points,
)

CLOUD = np.random.default_rng(0).normal(size=(7, 5))


def test_points_of_a_surface_are_uniform_in_its_area():
    """Of two squares in one mesh, one with nine times the area, nine points in ten lie on the larger one."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    vertices = np.concatenate([corners, 3 * corners + [10, 0, 0]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    points = sample_points(load_cloud(as_off(vertices, faces), ".off"), 5000)
    assert points.shape == (5000, 3)
    np.testing.assert_allclose(points[:, 2], 0, atol=1e-12)
    assert 0.88 < (points[:, 0] > 0).mean() < 0.92
    large = points[points[:, 0] > 0]
    assert np.histogram2d(large[:, 0], large[:, 1], bins=2)[0].min() > 0.22 * len(large)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_the_size_of_a_mesh_does_not_matter(scale):
    one, other = (sample_points(load_cloud(as_off(SOLID * s, TETRAHEDRON), ".off"), 11) for s in (1.0, scale))
    assert np.isfinite(other).all()
    assert np.abs(other).max() / scale == pytest.approx(np.abs(one).max(), rel=0.5)


def test_the_same_file_gives_the_same_points_and_another_one_others():
    first, again = (read_points(as_off(SOLID, TETRAHEDRON), (31, 3), ".off")["points"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = read_points(as_off(SOLID[::-1], TETRAHEDRON), (31, 3), ".off")["points"]
    assert not np.array_equal(first, other)


def test_a_small_cloud_is_padded_and_a_large_one_drawn_from():
    small = read_points(as_npy(CLOUD), (11, 5), ".npy")
    np.testing.assert_array_equal(small["points_padding_mask"], [True] * 7 + [False] * 4)
    np.testing.assert_array_equal(small["points"][7:], 0)
    np.testing.assert_allclose(small["points"][:7, :3], CLOUD[:, :3] - CLOUD[:, :3].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(small["points"][:7, 3:], CLOUD[:, 3:], atol=1e-6)
    large = read_points(as_npy(CLOUD), (3, 5), ".npy")
    assert large["points_padding_mask"].all()
    rows = [np.flatnonzero((small["points"][:7] == row).all(axis=1)) for row in large["points"]]
    assert len({int(row[0]) for row in rows}) == 3


def test_coordinates_of_maps_keep_their_digits():
    far = CLOUD[:, :3] + [665187.0, 5648349.0, 241.0]
    near = read_points(as_npy(far), (7, 3), ".npy")["points"]
    np.testing.assert_allclose(near, CLOUD[:, :3] - CLOUD[:, :3].mean(axis=0), atol=1e-6)


def test_the_scan_says_what_is_there():
    facts = scan_points(as_off(SOLID, TETRAHEDRON), ".off")
    centred = SOLID - SOLID.mean(axis=0)
    assert facts["size"] == [4]
    assert facts["faces"] == 4
    assert facts["channels"] == 3
    assert facts["low"] == pytest.approx(centred.min(), abs=1e-5)
    assert facts["high"] == pytest.approx(centred.max(), abs=1e-5)
    assert facts["hash"] == scan_points(as_off(SOLID, TETRAHEDRON), ".off")["hash"]
    assert facts["hash"] != scan_points(as_off(SOLID, TETRAHEDRON[:3]), ".off")["hash"]


def test_shapes():
    mesh, small, large = ({"channels": 5, "faces": f, "size": [n]} for f, n in ((4, 4), (0, 7), (0, 9999)))
    assert choose_points_shape([small]) == (7, 5)
    assert choose_points_shape([small, mesh]) == (2048, 5)
    assert choose_points_shape([small, large]) == (2048, 5)
    assert choose_points_shape([small, large], 13) == (13, 5)
    assert choose_points_shape([small, {**mesh, "channels": 3}]) == (2048, 3)
    with pytest.raises(InputError, match="`num_points` must be an integer of at least 2"):
        choose_points_shape([small], 1)


def test_clouds_with_features_of_different_number_are_used_without_them(tmp_path):
    rng = np.random.default_rng(0)
    for name, channels in (("a/1", 3), ("a/2", 5), ("b/1", 5), ("b/2", 3)):
        path = tmp_path / f"{name}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, rng.normal(size=(9, channels)))
    facts = [scan_points(path) for path in sorted(tmp_path.glob("*/*.npy"))]
    shape = choose_points_shape(facts)
    assert shape == (9, 3)
    (note,) = points_notes(facts, shape)
    assert "2 with 0, 2 with 2" in note
    assert read_points(tmp_path / "b" / "1.npy", shape)["points"].shape == shape
    assert choose_points_shape(facts[1:3]) == (9, 5)


def test_features_must_be_those_of_the_model():
    with pytest.raises(InputError, match=r"as many features as the model takes.*features=2, expected=1"):
        read_points(as_npy(CLOUD), (7, 4), ".npy")
    with pytest.raises(InputError, match=r"features=0, expected=2"):
        read_points(as_npy(CLOUD[:, :3]), (7, 5), ".npy")
    alone = read_points(as_npy(CLOUD), (7, 3), ".npy")["points"]
    np.testing.assert_array_equal(alone, read_points(as_npy(CLOUD[:, :3]), (7, 3), ".npy")["points"])


@pytest.mark.parametrize("batch", [(), (2,)], ids=["one", "a batch"])
def test_preprocessing_gives_mean_zero_and_the_unit_cube(batch):
    rng = np.random.default_rng(1)
    points = rng.normal(3, 2, (*batch, 11, 5)).astype(np.float32)
    points[..., 4] *= 255
    mask = np.broadcast_to(np.arange(11) < 7, (*batch, 11))
    points[..., 7:, :] = np.nan  # what is not real has no influence
    found = preprocess_points()({"points": tf.constant(points), "points_padding_mask": tf.constant(mask)})
    real = points[..., :7, :].astype(np.float64)
    xyz = real[..., :3] - real[..., :3].mean(axis=-2, keepdims=True)
    xyz /= np.abs(xyz).max(axis=(-2, -1), keepdims=True)
    features = real[..., 3:] / np.maximum(1, np.abs(real[..., 3:]).max(axis=-2, keepdims=True))
    np.testing.assert_allclose(found["points"][..., :7, :], np.concatenate([xyz, features], axis=-1), atol=1e-5)
    np.testing.assert_array_equal(found["points"][..., 7:, :], 0)
    np.testing.assert_array_equal(found["points_padding_mask"], mask)


def test_an_array_of_points_that_are_all_alike_becomes_zeros_and_not_nan():
    example = {"points": tf.fill((7, 3), 5.0), "points_padding_mask": tf.fill((7,), True)}
    np.testing.assert_array_equal(preprocess_points()(example)["points"], 0)


def test_only_real_points_are_drawn():
    axes = Figure().subplots()
    raw = read_points(as_npy(CLOUD), (11, 5), ".npy")
    example = preprocess_points()({name: tf.constant(raw[name]) for name in raw.dtype.names})
    draw_points(axes, example)
    views = axes.child_axes
    assert [len(view.collections[0].get_offsets()) for view in views] == [7, 7]
    np.testing.assert_allclose(views[1].collections[0].get_offsets(), example["points"][:7, :2])  # from above
