"""Meshes and clouds for `fuzz.py`: one solid in every format, and what may become of a mutant."""

import io

import numpy as np

from keras_perceiver._checks import InputError
from keras_perceiver.data.points import read_points, scan_points

SOLID = np.array([[0, 0, 0], [5, 0, 0.5], [0, 3, 0.25], [1, 1, 2]])
TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
NUM_POINTS = 13


def as_off(vertices, faces):
    lines = ["OFF", f"{len(vertices)} {len(faces)} 0"]
    lines += [" ".join(map(str, v)) for v in vertices] + [" ".join(map(str, (len(f), *f))) for f in faces]
    return "\n".join(lines).encode()


def commented(off):
    """An OFF file with comments and empty lines wherever its header may have them."""
    name, rest = off.split(b"\n", 1)
    return b"# a # solid\n\n#\n" + name + b" # of four\n  # faces # and\n\n" + rest


def as_ply(vertices, faces, order):
    """`order` is "" for text, "<" or ">" for binary files."""
    kind = {"": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[order]
    header = f"ply\nformat {kind} 1.0\nelement vertex {len(vertices)}\n"
    header += "".join(f"property float {axis}\n" for axis in "xyz")
    header += f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    if not order:
        return header.encode() + as_off(vertices, faces).split(b"\n", 2)[2] + b"\n"
    rows = [bytes([len(f)]) + np.asarray(f, f"{order}i4").tobytes() for f in faces]
    return header.encode() + np.asarray(vertices, f"{order}f4").tobytes() + b"".join(rows)


def as_obj(vertices, faces):
    lines = ["v " + " ".join(map(str, v)) for v in vertices]
    return "\n".join(lines + ["f " + " ".join(str(i + 1) for i in f) for f in faces]).encode() + b"\n"


def as_stl(vertices, faces, *, binary):
    triangles = np.asarray(vertices)[np.asarray(faces)]
    if binary:
        rows = np.zeros(len(faces), np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("more", "<u2")]))
        rows["corners"] = triangles
        return bytes(80) + len(faces).to_bytes(4, "little") + rows.tobytes()
    lines = ["solid a"]
    for triangle in triangles:
        lines += ["facet normal 0 0 0", "outer loop", *("vertex " + " ".join(map(str, v)) for v in triangle)]
        lines += ["endloop", "endfacet"]
    return "\n".join([*lines, "endsolid a", ""]).encode()


def as_npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def valid_files():
    """`{name: (bytes, extension)}` of one solid in every format and in its kinds that are decoded differently."""
    wide = np.concatenate([SOLID, SOLID[:, :2]], axis=1)
    archive = io.BytesIO()
    np.savez_compressed(archive, points=wide.astype(np.float32), label=3)
    return {
        "off": (as_off(SOLID, TETRAHEDRON), ".off"),
        "off with comments": (commented(as_off(SOLID, TETRAHEDRON)), ".off"),
        "off of mixed faces": (as_off(SOLID, [*TETRAHEDRON[:3], [0, 1, 2, 3]]), ".off"),
        "text ply": (as_ply(SOLID, TETRAHEDRON, ""), ".ply"),
        "little-endian ply": (as_ply(SOLID, TETRAHEDRON, "<"), ".ply"),
        "big-endian ply": (as_ply(SOLID, TETRAHEDRON, ">"), ".ply"),
        "ply of mixed faces": (as_ply(SOLID, 8 * [*TETRAHEDRON[:3], [0, 1, 2, 3]], "<"), ".ply"),
        "ply cloud": (as_ply(SOLID, [], "<"), ".ply"),
        "off cloud": (as_off(SOLID, []), ".off"),
        "obj": (as_obj(SOLID, TETRAHEDRON), ".obj"),
        "obj that counts back": (as_obj(SOLID, TETRAHEDRON - len(SOLID) - 1), ".obj"),
        "obj cloud": (as_obj(SOLID, []), ".obj"),
        "text stl": (as_stl(SOLID, TETRAHEDRON, binary=False), ".stl"),
        "binary stl": (as_stl(SOLID, TETRAHEDRON, binary=True), ".stl"),
        "xyz cloud": ("\n".join(" ".join(map(str, row)) for row in wide).encode(), ".xyz"),
        "npy cloud": (as_npy(wide), ".npy"),
        "npz cloud": (archive.getvalue(), ".npz"),
    }


def outcome(content, extension):
    """ "points" or "refused"; whatever else is raised goes through."""
    try:
        facts = scan_points(content, extension)
    except InputError:
        return "refused"
    example = read_points(content, (NUM_POINTS, facts["channels"]), extension)  # what was scanned must be readable
    assert example["points"].shape == (NUM_POINTS, facts["channels"])
    assert np.isfinite(example["points"]).all()
    assert example["points_padding_mask"].sum() == (NUM_POINTS if facts["faces"] else min(NUM_POINTS, facts["size"][0]))
    return "points"
