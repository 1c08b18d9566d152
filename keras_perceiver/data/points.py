"""Point clouds: the points of a mesh or a cloud, and what every model of points needs in front of it.

A mesh becomes points of its surface, a cloud stays what it is; each is a float32 array (M, 3 + e), coordinates x, y, z
first and e channels of features (brightness, colour, normals) behind them, beside a mask of the points that are real.
"""

import numpy as np
import tensorflow as tf

from keras_perceiver._checks import require, require_at_least
from keras_perceiver.data.drawing import highlighted
from keras_perceiver.data.point_files import Cloud, load_cloud

DEFAULT_POINTS = 2048  # of a mesh's surface, and at most of a cloud; about the 2,000 of the paper


def sample_points(cloud, num_points):
    """At most `num_points` points of a cloud, or exactly as many of a mesh's surface, uniform in its area.

    The draw follows from the content of the cloud: the same file gives the same points.

    Returns:
        (m, 3 + e) float64.
    """
    seed = int(cloud.digest(), 16)
    if cloud.faces is None:
        count = len(cloud.points)
        if count <= num_points:
            return cloud.points
        return cloud.points[np.sort(np.random.default_rng(seed).choice(count, num_points, replace=False))]
    import trimesh

    scale = np.abs(cloud.points).max()  # areas of very small meshes would be taken for none
    mesh = trimesh.Trimesh(cloud.points / scale, cloud.faces, process=False)
    points, _ = trimesh.sample.sample_surface(mesh, num_points, seed=seed)
    return np.asarray(points) * scale


def points_dtype(shape):
    """In which clouds of the shape (M, 3 + e) are kept: points (M, 3 + e) float32, and their mask (M,) bool."""
    return np.dtype([("points", np.float32, tuple(shape)), ("points_padding_mask", bool, shape[:1])])


def read_points(file, shape, extension=None):
    """Reads a mesh or a cloud as the points that a model takes.

    Args:
        file, extension: see `load_cloud`.
        shape: (M, 3 + e): M points, e features of each.

    Returns:
        Scalar of `points_dtype(shape)`: coordinates about their mean; the mask is True where a point is real, and
        zeros stand for the others.

    Raises:
        InputError: as `load_cloud`, and where the points of the file have fewer than e features, or more than e > 0.
    """
    channels = shape[1]
    cloud = load_cloud(file, extension)
    if channels == 3:  # features are left out, see `points_notes`
        cloud = Cloud(cloud.points[:, :3], cloud.faces)
    require(
        cloud.points.shape[1] == channels,
        "Every point must have as many features as the model takes, behind its three coordinates",
        file="bytes" if isinstance(file, bytes) else str(file),
        features=cloud.points.shape[1] - 3,
        expected=channels - 3,
    )
    return pack(cloud, shape)


def pack(cloud, shape):
    """A `Cloud` as `read_points` returns it."""
    drawn = sample_points(cloud, shape[0])
    example = np.zeros((), points_dtype(shape))
    example["points"][: len(drawn)] = drawn
    example["points_padding_mask"][: len(drawn)] = True
    return example


def scan_points(file, extension=None):
    """Decodes a mesh or a cloud once, fully, and says what is in it: facts that JSON can hold.

    Returns:
        `{"size": [n], "faces": int, "channels": int, "low": float, "high": float, "hash": str}`: points and triangles,
        coordinates and features of a point, and the range of its coordinates about their mean.

    Raises:
        InputError: as `load_cloud`.
    """
    return facts_of(load_cloud(file, extension))


def facts_of(cloud):
    """`scan_points`' facts of a `Cloud`."""
    return {
        "size": [len(cloud.points)],
        "faces": 0 if cloud.faces is None else len(cloud.faces),
        "channels": cloud.points.shape[1],
        "low": float(cloud.points[:, :3].min()),
        "high": float(cloud.points[:, :3].max()),
        "hash": cloud.digest(),
    }


def choose_points_shape(facts, num_points=None):
    """The (M, 3 + e) that clouds enter a model with.

    Args:
        facts: of every file, see `scan_points`.
        num_points: M; None for the size of the largest cloud and at most `DEFAULT_POINTS`, which meshes get.

    Returns:
        Two integers; e is 0 where not all clouds have the same number of features.
    """
    channels = {fact["channels"] for fact in facts}
    channels = channels if len(channels) == 1 else {3}
    if num_points is None:
        num_points = max(DEFAULT_POINTS if fact["faces"] else min(fact["size"][0], DEFAULT_POINTS) for fact in facts)
    require_at_least(2, num_points=num_points)
    return (num_points, channels.pop())


def points_notes(facts, shape):
    """What is to be said of a data set beside its problems."""
    counts = sorted({fact["channels"] - 3 for fact in facts})
    if len(counts) == 1:
        return []
    said = ", ".join(f"{sum(f['channels'] - 3 == count for f in facts):,} with {count}" for count in counts)
    return [f"clouds have features of different number behind their coordinates ({said}), and are used without them"]


def preprocess_points():
    """What stands between raw points and the model: a function of one cloud or a batch of them.

    Coordinates get the mean zero and are divided by the largest of them, so that they fill the cube [-1, 1]³, as in the
    paper; features that leave [-1, 1] are divided by the largest of their channel in the cloud, as all channels of a
    point are normalised together. Only real points count, and the others become zeros.

    Returns:
        Function of `{"points": (.., M, 3 + e) float32, "points_padding_mask": (.., M) bool}` that returns the same.
    """

    def fill(xyz):
        """Divided by the largest; zeros stay. NaN does too, which `divide_no_nan` under XLA makes zero."""
        largest = tf.reduce_max(tf.abs(xyz), axis=(-2, -1), keepdims=True)
        return xyz / tf.where(largest > 0, largest, 1.0)

    def preprocess(example):
        mask = example["points_padding_mask"]
        real = mask[..., None]  # (.., M, 1)
        points = tf.where(real, example["points"], 0.0)
        # The scale first: squares are never taken, and sums stay small.
        xyz, features = points[..., :3], points[..., 3:]
        xyz = fill(xyz)
        count = tf.reduce_sum(tf.cast(real, tf.float32), axis=-2, keepdims=True)
        mean = tf.math.divide_no_nan(tf.reduce_sum(xyz, axis=-2, keepdims=True), count)
        xyz = fill(tf.where(real, xyz - mean, 0.0))
        features = features / tf.maximum(1.0, tf.reduce_max(tf.abs(features), axis=-2, keepdims=True))
        return {"points": tf.concat([xyz, features], axis=-1), "points_padding_mask": mask}

    return preprocess


def draw_points(axes, example, weights=None):
    """Draws a cloud as it enters a model, from the corner of its cube, and smaller from above, x to the right and y up;
    what is near is dark.

    With `weights` of its points, (M,), it is grey, and they are laid over it.
    """
    is_real = np.asarray(example["points_padding_mask"])
    x, y, z = np.asarray(example["points"])[is_real][:, :3].T
    corner = ((x - y) / np.sqrt(2), (2 * z - x - y) / np.sqrt(6), x + y + z)
    for (across, up, near), place, half in ((corner, [0, 0, 0.6, 1], 1.7), ((x, y, z), [0.6, 0.3, 0.4, 0.4], 1.1)):
        view = axes.inset_axes(place)
        color = {"c": near, "cmap": "viridis_r"} if weights is None else {"color": "lightgrey"}
        view.scatter(across, up, s=1 if half > 1.5 else 0.5, linewidths=0, **color)
        if weights is not None:
            view.scatter(across, up, s=4, linewidths=0, c=highlighted(weights, weights.shape)[is_real])
        view.set(xlim=(-min(half, 1.5), min(half, 1.5)), ylim=(-half, half), aspect="equal")
        view.axis("off")
