"""Draws what a trained Perceiver looks at, for files of a user."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from keras_perceiver._checks import require, require_folder
from keras_perceiver.data import MODALITIES
from keras_perceiver.data.pipeline import fields
from keras_perceiver.data.source import slug
from keras_perceiver.inspection.attention_maps import attention_maps
from keras_perceiver.training import Run
from keras_perceiver.training.plots import plain, save

INCHES = 1.9  # of one map


def attend(run, files, *, output=None, latents=4, invert=False):
    """Draws for each file what the latents of a trained Perceiver attend to, one row for each cross-attend.

    Beside the mean of all latents some of them stand alone. Under each map is its largest weight, in units of that of a
    latent that looks at all bytes alike. Of a sound its middle window is looked at. Of films with sound both are drawn:
    the weights of all their bytes together are one.

    Args:
        run: folder of a finished run of a Perceiver.
        files: paths of files of the kind that it was trained on.
        output: folder of the drawings; None for `<run>/attention`.
        latents: how many, evenly chosen, or their numbers.
        invert: for dark ink on white, where the model has seen light ink on black.

    Returns:
        List of paths: one PNG for each file.

    Raises:
        InputError: where the run is not finished or of another network, or a file cannot be read.
    """
    require(len(files) > 0, "`files` must name at least one file", files=list(files))
    run = Run(run)
    config = run.config()
    run.read_json("metrics.json")  # an unfinished run has none: a clear error
    require(config["network"] == "perceiver", "`run` must be that of a Perceiver", network=config["network"])
    kind, shape = MODALITIES[config["source"]["modality"]], tuple(config["source"]["shape"])
    require(kind.name == "image" or not invert, "`invert` is for models of pictures", modality=kind.name)
    options = {"invert": invert} if kind.name == "image" else {}
    examples = [_read(kind, shape, file, config["preprocess"], options) for file in files]
    output = Path(output or run.folder / "attention")
    require_folder(output=output)
    model = keras.models.load_model(run.model_path, compile=False)
    class_names, drawn = config["source"]["class_names"], []
    for number, (file, example) in enumerate(zip(files, examples, strict=True)):
        name = slug(Path(file).stem)
        path = output / f"{name}.png"
        if path in drawn:
            path = output / f"{name}-{number + 1}.png"
        _draw(model, kind, example, latents, class_names, Path(file).name, path)
        drawn.append(path)
    return drawn


def _read(kind, shape, file, preprocess, options):
    """One example as it enters the model."""
    raw = fields(np.asarray(kind.read(file, shape, **options)))
    raw = raw if isinstance(raw, dict) else tf.cast(raw, tf.float32)
    return kind.preprocess(shape, **preprocess)(raw if kind.clip is None else kind.clip(raw, shape, 0, 1))


def _draw(model, kind, example, latents, class_names, name, path):
    """Writes the drawing of one file."""
    batch = tf.nest.map_structure(lambda x: x[None], example)
    best = int(np.argmax(model(batch, training=False)[0]))
    save(draw_attention(model, kind, example, latents, f"{name}, taken for {class_names[best]}"), path)


def draw_attention(model, kind, example, latents, title):
    """Draws the example, then the mean of all latents and the chosen ones; a row for each cross-attend.

    Args:
        model: a Perceiver.
        kind: `Modality` of the example.
        example: as it enters the model, without batch: a tensor, or a dictionary of them.
        latents: how many, evenly chosen, or their numbers.
        title: of the drawing.

    Returns:
        `matplotlib.figure.Figure`.
    """
    maps = attention_maps(model, tf.nest.map_structure(lambda x: x[None], example), latents=latents)
    titles = ["all latents", *(f"latent {number}" for number in maps.latents)]
    rows, columns = len(maps.mean), 1 + len(titles)
    figure = Figure(figsize=(INCHES * columns, 0.6 + 1.08 * INCHES * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for row, (mean, chosen) in enumerate(zip(maps.mean, maps.chosen, strict=True)):
        drawn = [_of_example(mean, ()), *(_of_example(chosen, number) for number in range(len(maps.latents)))]
        kind.draw(grid[row, 0], example)
        grid[row, 0].set_ylabel(f"cross-attend {row + 1}")
        for axes, weights in zip(grid[row, 1:], drawn, strict=True):
            kind.draw(axes, example, weights if len(weights) > 1 else next(iter(weights.values())))
            highest, size = max(w.max() for w in weights.values()), sum(w.size for w in weights.values())
            axes.set_xlabel(f"up to {highest * size:.1f}x uniform", fontsize=8)
    for axes, text in zip(grid[0], ["", *titles], strict=True):
        axes.set_title(text, fontsize=9)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    figure.suptitle(plain(title), fontsize=11)
    return figure


def _of_example(maps, latent):
    """`{modality: (s_1, .., s_d)}` of the only example, and of one of several latents."""
    return {name: weights[0][latent] for name, weights in maps.items()}
