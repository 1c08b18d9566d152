"""Folders of small pictures, each of one value, by which it is known again."""

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 6, 5


def write_picture(path, value):
    """Writes one grey PNG whose largest pixel is `value`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH), value, np.uint8)).save(path)


def write_pictures(folder, counts):
    """Writes `<class>/<number>.png`, as many as `counts` says for each class: `{path: value}`."""
    written = {}
    for number, (name, count) in enumerate(counts.items()):
        for i in range(count):
            written[f"{name}/{i}.png"] = 60 * number + i
            write_picture(folder / name / f"{i}.png", 60 * number + i)
    return written
