"""Files of meshes and clouds: the same shape from every format, a clear error in bounded time from what is broken."""

import io
import re
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from fuzz_points import SOLID, TETRAHEDRON, as_npy, as_obj, as_off, as_ply, as_stl, valid_files

from keras_perceiver._checks import InputError
from keras_perceiver.data import point_files
from keras_perceiver.data.point_files import MAX_ARRAY_BYTES, load_cloud
from keras_perceiver.data.points import (
    read_points,
    scan_points,
)


@pytest.mark.parametrize("name", [name for name in valid_files() if not re.search("cloud|mixed", name)])
def test_every_format_of_meshes_holds_the_same_solid(name):
    content, extension = valid_files()[name]
    cloud = load_cloud(content, extension)
    triangles = {tuple(sorted(map(tuple, t))) for t in cloud.points[cloud.faces].round(5)}
    expected = {tuple(sorted(map(tuple, t))) for t in (SOLID - SOLID.mean(axis=0))[TETRAHEDRON].round(5)}
    # Formats without shared vertices have another mean: compared by their edges.
    assert edges(triangles) == edges(expected)


def edges(triangles):
    return sorted(round(float(np.linalg.norm(np.subtract(a, b))), 3) for t in triangles for a in t for b in t)


@pytest.mark.parametrize("name", [name for name in valid_files() if "cloud" in name])
def test_every_format_of_clouds_holds_the_same_points(name):
    content, extension = valid_files()[name]
    cloud = load_cloud(content, extension)
    assert cloud.faces is None
    np.testing.assert_allclose(cloud.points[:, :3], SOLID - SOLID.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(cloud.points[:, 3:], SOLID[:, : cloud.points.shape[1] - 3], atol=1e-6)


def test_text_may_have_commas_comments_and_names_of_columns():
    expected = load_cloud(b"1 2 3\n4 5 6.5\n", ".xyz").points
    np.testing.assert_array_equal(expected, [[-1.5, -1.5, -1.75], [1.5, 1.5, 1.75]])
    for text in (b"x,y,z\n1,2,3\n# between\n4, 5, 6.5", b"//X Y Z\n1\t2\t3\r\n4;5;6.5\n\n"):
        np.testing.assert_array_equal(load_cloud(text, ".xyz").points, expected)


FACET = b"facet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\nendfacet\n"
SQUARE = b"v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"
HEADER = "ply\nformat {} 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
BAD = {
    "an OFF with fewer vertices than promised": (
        b"OFF\n5 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n",
        ".off",
        "promises 5 vertex and 1 face elements, and has 4 lines of them",
    ),
    "an OFF with fewer vertices, of which a square is taken for one": (
        b"OFF\n5 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n4 3 2 1 0\n",
        ".off",
        "promises 5 vertex and 2 face elements, and has 6 lines of them",
    ),
    "an OFF with fewer vertices, and more lines behind them": (
        b"OFF\n5 1 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n",
        ".off",
        r"promises 5 vertices, whose lines must be alike: they have \[3, 4\] numbers",
    ),
    "an OFF with fewer faces": (
        b"OFF\n3 2 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n",
        ".off",
        "and 2 face elements.* 4 lines",
    ),
    "an OFF with fewer faces beside a square": (
        b"OFF\n4 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n",
        ".off",
        "2 face elements, and has 5 lines",
    ),
    "an OFF with a huge header": (
        b"OFF\n999999999999 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n",
        ".off",
        "promises 999,999,999,999 vertex",
    ),
    "a PLY with fewer vertices": ((HEADER.format("ascii", 3) + "0 0 0\n1 0 0\n").encode(), ".ply", "promises 3"),
    "a PLY with fewer faces": (
        as_ply(SOLID, TETRAHEDRON, "")[:-8],
        ".ply",
        "promises 4 vertex and 4 face elements, and has 7 lines",
    ),
    "a PLY with a huge header": (
        HEADER.format("binary_little_endian", 10**12).encode() + bytes(24),
        ".ply",
        "unexpected length",
    ),
    "an STL with a huge header": (bytes(80) + struct.pack("<I", 2**32 - 1) + bytes(50), ".stl", "no points"),
    "NaN coordinates": (as_off(SOLID * [1, 1, np.nan], TETRAHEDRON), ".off", "must be finite"),
    "infinite text": (b"1 2 inf\n1 2 3", ".xyz", "must be finite"),
    "an empty cloud": (b"", ".xyz", "no points"),
    "an array without points": (as_npy(np.zeros((0, 3))), ".npy", "no points"),
    "all points alike": (as_npy(np.full((7, 3), 2.5)), ".npy", "in one place"),
    "faces without area": (as_off(SOLID, [[0, 1, 1], [2, 2, 2]]), ".off", "must have an area"),
    "an index out of range": (as_off(SOLID, [[0, 1, 4]]), ".off", "outside the range"),
    "a negative index": (as_ply(SOLID, [[0, 1, -1]], "<"), ".ply", "does not exist"),
    "an OBJ's index of zero": (as_obj(SOLID, [[0, 1, 2]]).replace(b"f 1 ", b"f 0 "), ".obj", "must begin at 1"),
    "an OBJ's index before the first": (as_obj(SOLID, []) + b"f -1 -2 -9\n", ".obj", "must begin at 1"),
    "an OBJ's index out of range": (as_obj(SOLID, [[0, 1, 4]]), ".obj", "out of bounds"),
    "coordinates beyond float32": (as_npy(np.eye(3) * 1e200), ".npy", "of a size between"),
    "two columns": (b"1 2\n3 4", ".xyz", "at least three coordinates"),
    "words": (b"1 2 3\nfour five six", ".xyz", "could not convert"),
    "decimal commas": (b"x y z\n1,5 2,5 3,5\n1,7 2,5 3,5", ".xyz", "a point, and no comma"),
    "an STL that is cut off": (as_stl(SOLID, TETRAHEDRON, binary=False)[:-90], ".stl", "ends before its last solid"),
    "objects": (as_npy(np.array([[{}, 1, 2]], object)), ".npy", "allow_pickle=False"),
    "strings": (as_npy(np.array([["a", "b", "c"]])), ".npy", "no real numbers"),
    "an empty STL": (b"", ".stl", ""),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_with_what_is_wrong(tmp_path, name):
    content, extension, reason = BAD[name]
    path = tmp_path / f"bad{extension}"
    path.write_bytes(content)
    for function in (scan_points, lambda file: read_points(file, (7, 3))):
        with pytest.raises(InputError, match=rf"bad\{extension} must be a readable mesh or cloud.*{reason}"):
            function(path)


@pytest.mark.parametrize(
    ("content", "extension"),
    [
        (b"# " * 40, ".off"),
        (b"# " * 10**5, ".off"),
        (b"OFF\n" + b"#\n" * 10**5, ".off"),
        (b"OFF" * 10**5 + b" " * 10**5, ".off"),
        (b"OFF\n3 2 0\n" + b"0 0 0\n" * 3 + b"9999 %s%s\n3 0 1 2" % (b"0" * 9999, b" 1 2" * 4999), ".off"),
        (b"ply\nelement vertex 1\n" * 10**5, ".ply"),
        (b"ply\nelement " + b"vertex " * 10**5 + b"1" * 10**5, ".ply"),
    ],
    ids=lambda value: str(value[:12]),
)
def test_headers_that_are_made_to_take_long_do_not(content, extension):
    began = time.process_time()
    with pytest.raises(InputError):
        load_cloud(content, extension)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("kind", ["off", "obj", "ply", "xyz"])
def test_text_of_very_many_lines_is_refused(kind, monkeypatch):
    rows = b"".join(b"%f %f %f\n" % tuple(vertex) for vertex in SOLID)
    make = {"off": as_off, "obj": as_obj, "ply": lambda *solid: as_ply(*solid, ""), "xyz": lambda *_: rows}[kind]
    content = make(SOLID, TETRAHEDRON)
    assert len(load_cloud(content, f".{kind}").points) == 4
    monkeypatch.setattr(point_files, "MAX_LINES", content.count(b"\n") - 1)
    with pytest.raises(InputError, match=r"more than the \d+ lines that can be read"):
        load_cloud(content, f".{kind}")


def test_indices_of_an_obj_may_count_back_from_their_line():
    """From the vertices that stand before the face, whatever is said of textures and normals."""
    far = SOLID + 9
    parts = (
        b"vt 0 0\n" + as_obj(SOLID, []) + b"vn 0 0 1\nf -4/-1/-1 -3/-1/-1 -2/-1/-1 \n  f 1 -3 -1\n" + as_obj(far, [])
    )
    cloud = load_cloud(parts + b"f -4 -3 -1\n", ".obj")
    corners = cloud.points[cloud.faces] - cloud.points[cloud.faces[0, 0]]
    expected = np.array([SOLID[[0, 1, 2]], SOLID[[0, 1, 3]], far[[0, 1, 3]]]) - SOLID[0]
    np.testing.assert_allclose(corners, expected, atol=1e-9)


def coloured_ply(vertices, faces):
    """A binary PLY file with more of each vertex and face than where they are, and edges."""
    header = f"ply\nformat binary_little_endian 1.0\ncomment element Ä\nelement vertex {len(vertices)}\n"
    header += (
        "".join(f"property double {axis}\n" for axis in "xyz") + f"property uchar red\nelement face {len(faces)}\n"
    )
    header += "property uchar green\nproperty list uchar float texcoord\nproperty list ushort uint vertex_index\n"
    header += "property short flags\nelement edge 1\nproperty int a\nend_header\n"
    body = b"".join(struct.pack("<3dB", *vertex, 7) for vertex in vertices)
    for face in faces:
        n = len(face)
        body += struct.pack(f"<BB{2 * n}fH{n}Ih", 9, 2 * n, *range(2 * n), n, *face, -1)
    return header.encode() + body + bytes(4)


WRITERS = {
    "off": (as_off, ".off"),
    "obj": (as_obj, ".obj"),
    "text ply": (lambda vertices, faces: as_ply(vertices, faces, ""), ".ply"),
    "little-endian ply": (lambda vertices, faces: as_ply(vertices, faces, "<"), ".ply"),
    "big-endian ply": (lambda vertices, faces: as_ply(vertices, faces, ">"), ".ply"),
    "coloured ply": (coloured_ply, ".ply"),
}


@pytest.mark.parametrize("kind", ["off", "little-endian ply"])
@pytest.mark.parametrize("alike", [True, False])
def test_faces_of_very_many_corners_are_refused_before_they_are_cut(kind, alike, monkeypatch):
    """Whether all faces have as many, of which trimesh makes triangles, or not."""
    write, extension = WRITERS[kind]
    faces = [[0, 1, 2, 3] * 30] * 2 if alike else [[0, 1, 2], [0, 1, 2, 3] * 60]
    content = write(SOLID, faces)
    triangles = sum(len(face) - 2 for face in faces)
    assert len(load_cloud(content, extension).faces) == triangles
    # Of PLY faces that are alike the first is looked at alone: no list of them is made.
    monkeypatch.setattr(point_files, "MAX_LINES", (triangles // 2 if alike and kind != "off" else triangles) - 1)
    with pytest.raises(InputError, match=r"more than the \d+ triangles that can be read"):
        load_cloud(content, extension)


def test_of_a_ply_file_with_texture_every_vertex_is_kept():
    """Also one that is in no face."""
    vertices = np.concatenate([SOLID, [[5, 5, 5]]])
    header = f"ply\nformat ascii 1.0\nelement vertex {len(vertices)}\n"
    header += "".join(f"property float {name}\n" for name in ("x", "y", "z", "s", "t"))
    header += f"element face {len(TETRAHEDRON)}\nproperty list uchar int vertex_indices\nend_header\n"
    rows = ["{} {} {} 0.5 0.25\n".format(*vertex) for vertex in vertices]
    rows += ["3 {} {} {}\n".format(*face) for face in TETRAHEDRON]
    cloud = load_cloud((header + "".join(rows)).encode(), ".ply")
    np.testing.assert_allclose(cloud.points[:, :3], vertices - vertices.mean(axis=0), atol=1e-6)
    assert len(cloud.faces) == len(TETRAHEDRON)


@pytest.mark.parametrize("name", WRITERS)
def test_faces_of_any_number_of_corners_become_triangles(name):
    """A house: a floor, walls of four and of five corners, and a roof of four triangles."""
    floor = np.array([[0, 0], [2, 0], [2, 2], [0, 2]], float)
    vertices = np.concatenate([np.pad(floor, [[0, 0], [0, 1]]), np.pad(floor, [[0, 0], [0, 1]], constant_values=1)])
    vertices = np.concatenate([vertices, [[1, 0, 1.5], [1, 1, 2]]])
    walls = [[0, 1, 5, 8, 4], [1, 2, 6, 5], [2, 3, 7, 6], [3, 0, 4, 7]]
    faces = [[0, 3, 2, 1], *walls, [8, 5, 9], [5, 6, 9], [6, 7, 9], [7, 4, 9], [4, 8, 9]]
    write, extension = WRITERS[name]
    content = write(vertices, faces)
    if name == "off":
        content = content.replace(b"\n4 3 0 4 7", b"\n# the last wall\n\n4 3 0 4 7 255 0 0  # red")
    cloud = load_cloud(content, extension)
    a, b, c = np.moveaxis(cloud.points[cloud.faces], 1, 0)
    assert len(cloud.faces) == 2 + 3 + 3 * 2 + 5
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    sides = [vertices[face] - vertices[9] for face in faces[5:]]
    roof = sum(np.linalg.norm(np.cross(side[0], side[1])) / 2 for side in sides)
    np.testing.assert_allclose(areas.sum(), 4 + 2 + 0.5 + 3 * 2 + roof)


@pytest.mark.parametrize(
    ("content", "extension"),
    [
        (b"".join(b"solid s%d\n%sendsolid s%d\n" % (i, FACET, i) for i in range(20_000)), ".stl"),
        (b"".join(b"%s endsolid s\n\nsolid s\n" % FACET[:-1] for _ in range(20_000)) + b"endsolid s", ".stl"),
        (SQUARE + b"".join(b"usemtl m%d\nf 1 2 3\ng g%d\nf 1 3 4\n" % (i, i) for i in range(20_000)), ".obj"),
        (
            SQUARE
            + b"".join(b"# use%smtl m%d\nf 1 2 3\n" % (b"\\\r\n" if i % 2 else b"\\\\\n\n", i) for i in range(20_000)),
            ".obj",
        ),
    ],
    ids=["stl", "stl of other lines", "obj", "obj of comments"],
)
def test_a_file_of_many_parts_takes_no_longer_than_one_of_a_part(content, extension):
    """trimesh would compare each part's name with those before it: minutes, and hours for a file of a few megabytes."""
    began = time.process_time()
    assert len(load_cloud(content, extension).faces) >= 20_000
    assert time.process_time() - began < 20


def test_a_face_of_two_vertices_is_no_missing_face():
    cloud = load_cloud(b"OFF\n3 2 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n2 0 1\n", ".off")
    assert len(cloud.faces) == 1


def test_the_number_of_points_on_the_first_line_of_a_text_is_none_of_them():
    """As CloudCompare writes it."""
    np.testing.assert_array_equal(load_cloud(b"2\n1 2 3\n3 4 5\n", ".xyz").points, [[-1, -1, -1], [1, 1, 1]])
    with pytest.raises(InputError, match="at least three coordinates"):
        load_cloud(b"2\n", ".xyz")


def test_promises_behind_comments_are_kept():
    content = valid_files()["off with comments"][0]
    with pytest.raises(InputError, match="promises 4 vertex and 9 face elements, and has 8 lines"):
        load_cloud(content.replace(b"\n4 4 0\n", b"\n4 9 0\n"), ".off")


def zipped(content):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("points.npy", content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (as_npy(np.zeros((MAX_ARRAY_BYTES // 24 + 1, 3), np.uint8)), "it may take at most 268,435,456"),
        (as_npy(np.zeros((1, 3), "S1")).replace(b"'|S1'", b"'|S999999999'"), "it may take at most"),
        (b"\x93NUMPY\x02\x00" + (2**25).to_bytes(4, "little") + bytes(2**25), "EOF: reading array header"),
    ],
    ids=["many small numbers", "one wide number", "a long header"],
)
def test_a_small_file_that_unpacks_to_much_is_refused_before_it_is_unpacked(content, reason):
    for some, extension in ((zipped(content), ".npz"), (content, ".npy")):
        tracemalloc.start()
        with pytest.raises(InputError, match=reason):
            load_cloud(some, extension)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**20 + (len(content) if extension == ".npy" else 0)  # which is read as it is


def test_nothing_that_a_file_names_is_opened(tmp_path, monkeypatch):
    (tmp_path / "other.mtl").write_text("newmtl a\nmap_Kd picture.png\n")
    path = tmp_path / "a.obj"
    path.write_bytes(b"mtllib other.mtl\nusemtl a\n" + as_obj(SOLID, TETRAHEDRON))
    opened = []
    monkeypatch.setattr("builtins.open", lambda file, *a, **k: opened.append(file))
    assert len(load_cloud(path).faces) == 4
    assert opened == []


def test_binary_stl_is_read_as_text_is():
    assert load_cloud(as_stl(SOLID, TETRAHEDRON, binary=True), ".stl").faces.shape == (4, 3)
