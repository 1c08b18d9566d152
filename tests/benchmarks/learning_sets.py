"""Sets to learn from, as folders that `keras-perceiver train FOLDER` takes: `learning_sets.py solids FOLDER`.

Published ones, copied from where they lie, beside a `labels.csv` with the split of those who made them:

- `spoken_digits`: the Free Spoken Digit Dataset, real recordings; 0 to 4 of each speaker and digit are the test;
- `shape_actions`: synthetic films of shapes that move in one of three ways; number 5 of each colour, shape and way is
  the test.

Made here, and so synthetic, of real data or of nothing, with `train` and `test`, the same for the same seed:

- `lit_pixels`: the lit pixels of pictures in an .npz file (Fashion-MNIST) as points (x, y, brightness);
- `solids`: clouds sampled from twelve families of parametric solids of random proportions, turned about z, with noise;
- `fusion`: a spoken digit with noise beside a film of noisy pictures of the same class.
"""

import argparse
import csv
import shutil
import wave
from pathlib import Path

import av
import numpy as np
import trimesh

SIDE = 28.0  # of the pictures: brightness is drawn as high as they are wide
FRAME_RATE = 10


def spoken_digits(arguments):
    """Files <digit>_<speaker>_<number>.wav, labelled with their digits."""
    paths = sorted(arguments.folder.glob("[0-9]_*_*.wav"))
    copy(paths, arguments, label=lambda path: path.stem.split("_")[0], in_test=is_test_of_spoken_digits)


def is_test_of_spoken_digits(path):
    return int(path.stem.split("_")[2]) < 5


def shape_actions(arguments):
    """Films <action>/<colour>_<shape>_<number>.mp4, labelled with their actions."""
    paths = sorted(arguments.folder.glob("*/*.mp4"))
    copy(paths, arguments, label=lambda path: path.parent.name, in_test=lambda path: path.stem.endswith("_5"))


def copy(paths, arguments, *, label, in_test):
    """Copies the files, and writes which label and which split each one has."""
    with open(arguments.output / "labels.csv", "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", "label", "split"])
        for path in paths:
            name = Path(arguments.folder.name) / path.relative_to(arguments.folder)
            (arguments.output / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, arguments.output / name)
            rows.writerow([name.as_posix(), label(path), "test" if in_test(path) else "train"])


def lit_pixels(arguments):
    """(x, y, brightness) of each pixel above a tenth of white; white is as high as a picture is wide."""
    for split, images, labels in pictures(arguments.images):
        count = {"train": arguments.train, "test": arguments.test}[split]
        for number, (image, label) in enumerate(zip(images[:count], labels[:count], strict=True)):
            y, x = np.nonzero(image > 25)
            points = np.stack([x, SIDE - 1 - y, image[y, x] * (SIDE / 255)], 1)
            write(arguments.output / split / str(label) / f"{number:05}.npy", points)


def pictures(path):
    """Yields (split, images, labels) of a file as Keras names them."""
    with np.load(path, allow_pickle=False) as data:
        for split in ("train", "test"):
            yield split, data[f"x_{split}"], data[f"y_{split}"]


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.asarray(array, np.float32))


def solids(arguments):
    """`points` points of each solid: proportions from a half to twice, any angle about z, noise of 2 % of its size."""
    rng = np.random.default_rng(arguments.seed)
    for split, count in (("train", arguments.train), ("test", arguments.test)):
        for name, make in FAMILIES.items():
            for number in range(count):
                mesh = make(rng)
                points, _ = trimesh.sample.sample_surface(mesh, arguments.points, seed=int(rng.integers(2**31)))
                points = np.asarray(points) * rng.uniform(0.7, 1.4, 3)
                angle = rng.uniform(0, 2 * np.pi)
                turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
                size = np.abs(points - points.mean(axis=0)).max()
                noise = rng.normal(0, arguments.noise * size, points.shape)
                write(arguments.output / split / name / f"{number:04}.npy", points @ turn.T + noise)


def hull(points):
    return trimesh.convex.convex_hull(np.asarray(points, float))


def prism(sides, height, shrunk=1.0):
    """A regular polygon that is extruded; the upper one is `shrunk`."""
    angles = 2 * np.pi * np.arange(sides) / sides
    ring = np.stack([np.cos(angles), np.sin(angles)], 1)
    below, above = (np.c_[ring * scale, np.full(sides, z)] for scale, z in ((1, 0), (shrunk, height)))
    return hull(np.concatenate([below, above]))


def dome(rng):
    points = trimesh.creation.icosphere(3).vertices
    return hull(points[points[:, 2] >= 0])


def spring(rng):
    """A thin tube along a helix."""
    t = np.linspace(0, 1, 80)[:, None]
    around = 2 * np.pi * t * rng.uniform(1.5, 3)
    centre = np.concatenate([np.cos(around), np.sin(around), 2.5 * t], 1)
    angles = 2 * np.pi * np.arange(8) / 8
    outward = centre * [1, 1, 0]
    ring = centre[:, None] + 0.15 * (
        outward[:, None] * np.cos(angles)[None, :, None] + np.array([0, 0, 1]) * np.sin(angles)[None, :, None]
    )
    index = np.arange(80 * 8).reshape(80, 8)
    a, b = index[:-1], np.roll(index, -1, 1)[:-1]
    c, d = index[1:], np.roll(index, -1, 1)[1:]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)])
    return trimesh.Trimesh(ring.reshape(-1, 3), faces, process=False)


FAMILIES = {  # trimesh.creation has the others
    "box": lambda rng: trimesh.creation.box(rng.uniform(0.5, 2, 3)),
    "capsule": lambda rng: trimesh.creation.capsule(rng.uniform(1, 3), 0.6, count=[16, 16]),
    "cone": lambda rng: trimesh.creation.cone(1, rng.uniform(1.2, 2.5), sections=32),
    "cylinder": lambda rng: trimesh.creation.cylinder(1, rng.uniform(0.5, 3), sections=32),
    "dome": dome,
    "ellipsoid": lambda rng: trimesh.creation.icosphere(3),
    "hexagonal prism": lambda rng: prism(6, rng.uniform(0.5, 3)),
    "pyramid": lambda rng: prism(4, rng.uniform(1, 2.5), 0.0),
    "spring": spring,
    "torus": lambda rng: trimesh.creation.torus(1, rng.uniform(0.2, 0.5), major_sections=32, minor_sections=16),
    "triangular prism": lambda rng: prism(3, rng.uniform(0.5, 3)),
    "tube": lambda rng: trimesh.creation.annulus(rng.uniform(0.5, 0.8), 1, rng.uniform(0.8, 3), sections=32),
}


def fusion(arguments):
    """Films of a digit that is spoken, and of pictures of the class with its number; both under noise."""
    rng = np.random.default_rng(arguments.seed)
    by_split = {split: (images, labels) for split, images, labels in pictures(arguments.images)}
    for path in sorted(arguments.sounds.glob("[0-9]_*_*.wav")):
        digit, _, _ = path.stem.split("_")
        split = "test" if is_test_of_spoken_digits(path) else "train"
        with wave.open(str(path)) as file:
            rate, samples = file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
        loudness = np.sqrt(np.mean(samples**2))
        heard = samples + loudness * 10 ** (-arguments.decibels / 20) * rng.standard_normal(len(samples))
        images, labels = by_split[split]
        count = max(2, int(np.ceil(len(samples) / rate * FRAME_RATE)))
        chosen = rng.choice(np.flatnonzero(labels == int(digit)), count)
        seen = images[chosen] + 255 * arguments.picture_noise * rng.standard_normal((count, *images.shape[1:]))
        write_film(arguments.output / split / digit / f"{path.stem}.mkv", seen, heard, rate)


def write_film(path, frames, samples, rate):
    """Frames (T, H, W) in [0, 255] and (S,) in [-1, 1] without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        picture = container.add_stream("ffv1", rate=FRAME_RATE, width=frames.shape[2], height=frames.shape[1])
        picture.pix_fmt = "gray"
        sound = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        packets = []
        for number, frame in enumerate(np.rint(frames).clip(0, 255).astype(np.uint8)):
            image = av.VideoFrame.from_ndarray(frame, format="gray")
            image.pts = number
            packets += picture.encode(image)
        whole = np.rint(samples * 32768).clip(-32768, 32767).astype(np.int16)[None]
        block = av.AudioFrame.from_ndarray(whole, format="s16", layout="mono")
        block.sample_rate = rate
        for packet in (*packets, *picture.encode(), *sound.encode(block), *sound.encode()):
            container.mux(packet)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    for make in (spoken_digits, shape_actions, lit_pixels, solids, fusion):
        kind = kinds.add_parser(make.__name__, help=make.__doc__)
        kind.set_defaults(make=make)
        kind.add_argument("output", type=Path, help="a folder that does not exist yet")
        if make in (spoken_digits, shape_actions):
            kind.add_argument("--folder", type=Path, required=True, help="where the set lies")
            continue
        if make is not lit_pixels:
            kind.add_argument("--seed", type=int, default=0)
        if make is not solids:
            kind.add_argument(
                "--images", type=Path, required=True, help=".npz file with x_train, y_train, x_test, y_test"
            )
        if make is fusion:
            kind.add_argument("--sounds", type=Path, required=True, help="folder of <digit>_<speaker>_<number>.wav")
            kind.add_argument("--decibels", type=float, default=-6.0, help="of the sound above its noise")
            kind.add_argument("--picture-noise", type=float, default=1.0, help="its deviation, in units of white")
        else:
            kind.add_argument("--train", type=int, default={lit_pixels: 60_000, solids: 200}[make])
            kind.add_argument("--test", type=int, default={lit_pixels: 10_000, solids: 50}[make])
        if make is solids:
            kind.add_argument("--points", type=int, default=512)
            kind.add_argument("--noise", type=float, default=0.02, help="its deviation, as a share of the size")
    arguments = parser.parse_args(arguments)
    arguments.output.mkdir(parents=True)
    arguments.make(arguments)


if __name__ == "__main__":
    main()
