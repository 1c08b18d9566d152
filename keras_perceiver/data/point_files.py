"""Files of meshes and clouds of points -> `Cloud`.

`trimesh` reads OFF, PLY, OBJ and STL, NumPy the rest. Files may be anybody's: time and memory for one are bounded.
"""

import hashlib
import io
import itertools
import logging
import math
import os
import re
import struct
import zipfile
from dataclasses import dataclass

import numpy as np

from keras_perceiver._checks import InputError
from keras_perceiver.data.files import open_regular

MESHES = (".off", ".ply", ".obj", ".stl")
EXTENSIONS = (*MESHES, ".xyz", ".npy", ".npz")
MAX_FILE_BYTES = 2**26  # 64 MiB: text takes up to twenty times its size while trimesh reads it
MAX_LINES = 2**22  # of text, each of which takes some 170 bytes however short it is
MAX_ARRAY_BYTES = 2**28  # 256 MiB of an array as it is held, in float64: small files may unpack to large ones
MAX_HEADER_BYTES = 2**14  # of an array
MIN_SCALE = 1e-30  # of coordinates about their mean: below it, and above its inverse, float32 has too few digits

# How many elements the header of a file promises. Every expression takes linear time, whatever stands in the file: a
# comment ends at its line, and of PLY only the header is looked at.
OFF_COUNTS = re.compile(rb"\A\s*(?:#[^\n]*\n\s*)*[A-Z]*OFF\s*(?:#[^\n]*\n\s*)*(?P<vertex>\d+)\s+(?P<face>\d+)")
PLY_TEXT = re.compile(rb"^format\s+ascii\b", re.MULTILINE)
OBJ_RELATIVE = re.compile(rb"^[ \t]*f[ \t](?:[^\n]*[ \t/])?(?:-|0+(?![\d.]))", re.MULTILINE)
PLY_HEADER = re.compile(rb"\Aply\s.{,16384}?\bformat\s+(binary_\w+_endian).{,16384}?\bend_header\r?\n", re.DOTALL)
PLY_ORDERS = {b"binary_little_endian": "<", b"binary_big_endian": ">"}
PLY_CORNERS = ("vertex_indices", "vertex_index")
# As `struct` calls them.
PLY_TYPES = dict.fromkeys(("char", "int8"), "b") | dict.fromkeys(("uchar", "uint8"), "B")
PLY_TYPES |= dict.fromkeys(("short", "int16"), "h") | dict.fromkeys(("ushort", "uint16"), "H")
PLY_TYPES |= dict.fromkeys(("int", "int32"), "i") | dict.fromkeys(("uint", "uint32"), "I")
PLY_TYPES |= dict.fromkeys(("float", "float32"), "f") | dict.fromkeys(("double", "float64"), "d")
PLY_ELEMENT = re.compile(rb"^element\s+(?P<kind>\w+)\s+(?P<count>\d+)", re.MULTILINE)
DECIMAL_COMMA = re.compile(r"\d,\d+[;\t ]+[-+]?\d+,\d")
STL_BOUNDS = re.compile(rb"(?:end)?solid[^\n]*", re.IGNORECASE)
STL_HEADER, STL_TRIANGLE = 84, 50  # bytes of a binary file

# trimesh says there what it could not load beside a shape, such as pictures, which are not asked for.
logging.getLogger("trimesh").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Cloud:
    """Points (n, 3 + e) float64 and, for a mesh, its triangles (f, 3), indices of points; None for a cloud."""

    points: np.ndarray
    faces: np.ndarray | None = None

    def digest(self):
        """A hash of what was decoded."""
        digest = hashlib.blake2b(repr(self.points.shape).encode(), digest_size=16)
        for array in (self.points, self.faces):
            if array is not None:
                digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()


def load_cloud(file, extension=None, name=None):
    """Reads a mesh or a cloud.

    Args:
        file: path of an OFF, PLY, OBJ, STL, XYZ, NPY or NPZ file, or its bytes. XYZ is text, one point a line: three
            coordinates and the same number of features everywhere. NPY is an array (n, 3 + e); NPZ holds one as
            `points`, or its only array. Nothing that a file names is opened, and nothing in it is executed.
        extension: which of them, such as ".off"; None to take it from the path.
        name: in messages; None for the path.

    Returns:
        `Cloud`.

    Raises:
        InputError: where the file is missing or cannot be decoded, has more than `MAX_FILE_BYTES`, fewer vertices or
            faces than its header promises, faces of vertices that do not exist, coordinates that are not finite, or no
            two points that are apart.
    """
    name = name or ("The data" if isinstance(file, bytes) else str(file))
    extension = os.path.splitext(name)[1].lower() if extension is None else extension
    try:
        if not isinstance(file, bytes):
            with open_regular(file, MAX_FILE_BYTES) as stream:
                file = stream.read()
        return checked(READERS[extension](file, extension))
    except Exception as error:  # readers raise nearly everything: IndexError, struct.error, MemoryError, ..
        reason = (str(error) or type(error).__name__)[:200]
        kinds = "OFF, PLY, OBJ, STL, XYZ, NPY or NPZ"
        raise InputError(f"{name} must be a readable mesh or cloud of points ({kinds}). {reason}") from error


def _read_mesh(content, extension):
    import trimesh

    is_text = _require_few_lines(content, extension)
    promised = _promised(content, extension, is_text)
    content = PREPARED.get(extension, bytes)(content)
    options = MESH_OPTIONS.get(extension, {})
    scene = trimesh.load_scene(io.BytesIO(content), file_type=extension[1:], process=False, **options)
    vertices, faces, count = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0
    for shape in scene.geometry.values():
        vertices.append(np.asarray(shape.vertices, np.float64).reshape(-1, 3))
        triangles = np.asarray(getattr(shape, "faces", ()), np.int64).reshape(-1, 3)
        if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(vertices[-1]):
            raise ValueError("A face has a vertex that does not exist.")
        faces.append(triangles + count)
        count += len(vertices[-1])
    cloud = Cloud(np.concatenate(vertices), np.concatenate(faces) if any(map(len, faces)) else None)
    if len(cloud.points) < promised:
        raise ValueError(f"It promises {promised:,} vertices and has {len(cloud.points):,}.")
    return cloud


def _one_obj(content):
    """An OBJ file of one part, in UTF-8: trimesh would compare each part with all before it, and guess an encoding.

    Its faces are of vertices alone, counted from 1, if an index is negative: that counts back from its line.

    Raises:
        ValueError: where one is 0, or before the first vertex.
    """
    content = content.decode("utf-8", "replace").encode()
    content = content.replace(b"\r\n", b"\n").replace(b"\\\n", b"").replace(b"\\", b" ")  # lines that go on
    content = content.replace(b"usemtl ", b" ")  # of which trimesh makes parts wherever it stands
    if not OBJ_RELATIVE.search(content):
        return content
    count, lines = 0, content.split(b"\n")
    for number, line in enumerate(lines):
        kind, *corners = line.split() or [b""]
        count += kind == b"v"
        if kind == b"f":
            indices = [int(corner.partition(b"/")[0]) for corner in corners]  # nobody asks for textures and normals
            indices = [i if i >= 0 else count + 1 + i for i in indices]
            if min(indices, default=1) < 1:
                raise ValueError("Its indices must begin at 1, or count back to it.")
            lines[number] = b"f " + b" ".join(b"%d" % i for i in indices)
    return b"\n".join(lines)


def _one_stl(content):
    """An STL file of one solid, for the same reason.

    Raises:
        ValueError: where a text does not end with its last solid.
    """
    if len(content) == STL_HEADER + STL_TRIANGLE * int.from_bytes(content[STL_HEADER - 4 : STL_HEADER], "little"):
        return content
    content = content.decode("utf-8", "replace").encode()
    if b"vertex" in content.lower().rpartition(b"endsolid")[2]:
        raise ValueError("It ends before its last solid does.")
    return b"solid a\n" + STL_BOUNDS.sub(b"", content) + b"\nendsolid a\n"


def _in_triangles(content):
    """An OFF file whose faces have all the same number of corners: others are cut into triangles from their first one,
    as trimesh does it for all formats but this one."""
    counts = OFF_COUNTS.search(content)
    if counts is None:
        return content
    lines = (line.partition(b"#")[0].strip() for line in content[counts.end() :].split(b"\n")[1:])
    vertices = list(itertools.islice(filter(None, lines), int(counts["vertex"])))
    faces = list(itertools.islice(filter(None, lines), int(counts["face"])))
    corners = [int(face.split(None, 1)[0]) for face in faces]
    _require_few_triangles(sum(min(count, len(face) // 2) - 2 for count, face in zip(corners, faces, strict=True)))
    if len(set(corners)) <= 1:
        return content
    faces = [face.split() for face in faces]
    corners = [[b"%d" % int(corner) for corner in face[1 : int(face[0]) + 1]] for face in faces]
    triangles = [(b"3", face[0], *pair) for face in corners for pair in itertools.pairwise(face[1:])]
    head = content[: counts.start("face")] + b"%d 0" % len(triangles)
    return b"\n".join([head, *vertices, *map(b" ".join, triangles)])


def _ply_in_triangles(content):
    """A binary PLY file of which all faces have the same number of corners: trimesh takes the first one's for all."""
    found = PLY_HEADER.match(content)
    if found is None:
        return content
    order, elements = PLY_ORDERS[found[1]], []
    for line in found[0].split(b"\n"):
        word, *rest = line.decode("latin-1").split() or [""]
        if word == "element":
            elements.append((rest[0], int(rest[1]), []))
        elif word == "property":
            elements[-1][2].append(rest)
    if [name for name, _, _ in elements[:2]] != ["vertex", "face"] or any(p[0] == "list" for p in elements[0][2]):
        return content
    (_, num_vertices, of_vertex), (_, num_faces, of_face) = elements[:2]
    begin = found.end()
    end = begin + num_vertices * sum(struct.calcsize(PLY_TYPES[kind]) for kind, _ in of_vertex)
    corners = _ply_corners(content, end, num_faces, of_face, order)
    if corners is None:
        return content
    triangles = [(face[0], *pair) for face in corners for pair in itertools.pairwise(face[1:])]
    rows = np.zeros(len(triangles), [("count", "u1"), ("corners", f"{order}i4", 3)])
    rows["count"], rows["corners"] = 3, np.array(triangles, np.int64).reshape(-1, 3)
    head = [f"ply\nformat {found[1].decode()} 1.0\nelement vertex {num_vertices}"]
    head += [f"property {kind} {name}" for kind, name in of_vertex]
    head += [f"element face {len(rows)}", "property list uchar int vertex_indices", "end_header\n"]
    return "\n".join(head).encode() + content[begin:end] + rows.tobytes()


def _ply_corners(content, place, num_faces, properties, order):
    """The corners of each face from that place on; None where they are equally many, or nobody knows which they are."""
    if num_faces == 0 or not any(kind == "list" and name[-1] in PLY_CORNERS for kind, *name in properties):
        return None
    if num_faces > MAX_LINES:
        raise ValueError(f"It has more than the {MAX_LINES:,} faces that can be read.")
    first, _ = _ply_face(content, place, properties, order)
    row = []
    for number, (prop, items) in enumerate(zip(properties, first, strict=True)):
        if prop[0] == "list":
            row.append((f"count {number}", order + PLY_TYPES[prop[1]]))
        row.append((f"items {number}", order + PLY_TYPES[prop[-2]], len(items)))
    counts = {f"count {i}": len(items) for i, items in enumerate(first) if properties[i][0] == "list"}
    if len(content) - place >= num_faces * np.dtype(row).itemsize:
        table = np.frombuffer(content, row, num_faces, place)
        if all((table[name] == count).all() for name, count in counts.items()):
            return None
    wanted = next(i for i, prop in enumerate(properties) if prop[-1] in PLY_CORNERS)
    faces, count = [], 0
    for _ in range(num_faces):
        found, place = _ply_face(content, place, properties, order)
        faces.append(found[wanted])
        count += len(found[wanted]) - 2
        _require_few_triangles(count)
    return faces


def _ply_face(content, place, properties, order):
    """The numbers of each property of the face at that place, and where the next one is."""
    found = []
    for prop in properties:
        count = 1
        if prop[0] == "list":
            (count,) = struct.unpack_from(order + PLY_TYPES[prop[1]], content, place)
            place += struct.calcsize(PLY_TYPES[prop[1]])
            _require_few_triangles(count - 2)
        found.append(struct.unpack_from(f"{order}{count}{PLY_TYPES[prop[-2]]}", content, place))
        place += count * struct.calcsize(PLY_TYPES[prop[-2]])
    return found, place


# Of trimesh: no materials are looked for, and of a PLY file with texture no vertex is left out.
MESH_OPTIONS = {".obj": {"skip_materials": True}, ".ply": {"fix_texture": False}}
# What makes a file of one that trimesh reads well, in bounded time.
PREPARED = {".obj": _one_obj, ".off": _in_triangles, ".stl": _one_stl, ".ply": _ply_in_triangles}


def _require_few_lines(content, extension):
    """Of text, each line of which takes memory and time however short it is."""
    is_text = extension in (".off", ".obj", ".xyz") or (
        extension == ".ply" and PLY_TEXT.search(content[: 2**16]) is not None
    )
    if is_text and content.count(b"\n") + content.count(b"\r") > MAX_LINES:
        raise ValueError(f"It has more than the {MAX_LINES:,} lines that can be read.")
    return is_text


def _require_few_triangles(count):
    """Of the faces of a file, in so many triangles."""
    if count > MAX_LINES:
        raise ValueError(f"Its faces have more than the {MAX_LINES:,} triangles that can be read.")


def _promised(content, extension, is_text):
    """How many vertices the header of a file promises; 0 where it does not.

    Raises:
        ValueError: where text has fewer lines, each of a vertex or a face, than its header promises of both, or an OFF
            file has vertices that are not alike, as where faces stand in the place of some.
    """
    if extension == ".off" and (found := OFF_COUNTS.search(content)):
        counts, rest = {name: int(number) for name, number in found.groupdict().items()}, content[found.end() :]
        lines, widths = 0, set()
        for line in rest.splitlines()[1:]:
            fields = line.partition(b"#")[0].split(None, 20)
            if fields and lines < counts["vertex"]:
                widths.add(len(fields))
            lines += bool(fields)
    elif extension == ".ply":
        header, _, rest = content.partition(b"end_header")
        counts = {found["kind"].decode(): int(found["count"]) for found in PLY_ELEMENT.finditer(header)}
        lines = sum(bool(line.strip()) for line in rest.splitlines()) if is_text else sum(counts.values())
    else:
        return 0
    if lines < sum(counts.values()):
        said = " and ".join(f"{count:,} {name}" for name, count in counts.items())
        raise ValueError(f"It promises {said} elements, and has {lines:,} lines of them.")
    if extension == ".off" and len(widths) > 1:
        raise ValueError(
            f"It promises {counts['vertex']:,} vertices, whose lines must be alike: they have {sorted(widths)} numbers."
        )
    return counts.get("vertex", 0)


def _read_text(content, extension):
    _require_few_lines(content, extension)
    lines = content.decode("utf-8", "replace").splitlines()
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith(("#", "//"))]
    if len(lines) > 1 and re.fullmatch(r"\s*\d+\s*", lines[0]):
        del lines[0]  # the number of points, as CloudCompare writes it
    if lines and not re.match(r"\s*[-+]?\.?\d", lines[0]) and not re.match(r"\s*[-+]?(nan|inf)", lines[0].lower()):
        del lines[0]  # names of the columns
    if any(map(DECIMAL_COMMA.search, lines[:1])):
        raise ValueError("Its numbers must have a point, and no comma, before their decimals.")
    lines = [re.sub(r"[,;\t]", " ", line) for line in lines]
    return Cloud(np.loadtxt(lines, np.float64, comments=None, ndmin=2) if lines else np.zeros((0, 3)))


def _read_array(content, extension):
    if extension == ".npy":
        array = _bounded_array(lambda: io.BytesIO(content))
    else:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            name = "points.npy" if len(names) > 1 else names[0]
            array = _bounded_array(lambda: archive.open(name))
    if array.dtype.kind not in "fiub":
        raise ValueError(f"Its array holds no real numbers but {array.dtype}.")
    return Cloud(array.astype(np.float64))


def _bounded_array(opened):
    """An array in NumPy's format, whose header says how large it is before any of it is read.

    `opened` is a function that returns a stream of it, from its beginning.
    """
    with opened() as stream:
        start = io.BytesIO(stream.read(MAX_HEADER_BYTES))
    version = np.lib.format.read_magic(start)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(start)
    size = math.prod(shape) * max(dtype.itemsize, np.dtype(np.float64).itemsize)
    if size > MAX_ARRAY_BYTES:
        raise ValueError(f"Its array would take {size:,} bytes; it may take at most {MAX_ARRAY_BYTES:,}.")
    with opened() as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


READERS = {**dict.fromkeys(MESHES, _read_mesh), ".xyz": _read_text, ".npy": _read_array, ".npz": _read_array}


def checked(cloud):
    """The cloud, its points about their mean: float32 has too few digits for coordinates of maps.

    Raises:
        ValueError: where it cannot be used, see `load_cloud`.
    """
    points = cloud.points
    if points.ndim != 2 or points.shape[1] < 3:
        raise ValueError(f"Points must be rows of at least three coordinates, and not of the shape {points.shape}.")
    if not len(points):
        raise ValueError("It holds no points.")
    if not np.isfinite(points).all():
        raise ValueError("Its numbers must be finite.")
    with np.errstate(over="ignore", invalid="ignore"):
        centred = points[:, :3] - points[:, :3].mean(axis=0)
        scale = np.abs(centred).max()
    if not (points[:, :3] != points[:1, :3]).any():
        raise ValueError("Its points must not all lie in one place.")
    if not (MIN_SCALE < scale < 1 / MIN_SCALE and np.abs(points[:, 3:]).max(initial=0) < 1 / MIN_SCALE):
        raise ValueError(f"Its numbers must be of a size between {MIN_SCALE} and {1 / MIN_SCALE}.")
    if cloud.faces is not None and not _areas(centred / scale, cloud.faces).any():
        raise ValueError("Its faces must have an area.")
    return Cloud(np.concatenate([centred, points[:, 3:]], axis=1), cloud.faces)


def _areas(points, faces):
    """Twice the area of each triangle: (f,)."""
    a, b, c = (points[faces[:, corner]] for corner in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=-1)
