"""How fast a model answers: latency and throughput against batch size and threads."""

import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from keras_perceiver._checks import InputError, printable, require, require_above, require_positive
from keras_perceiver._files import read_json_object
from keras_perceiver.data import MODALITIES
from keras_perceiver.export.endpoints import Served, noise
from keras_perceiver.export.parity import FreshProcess, write_inputs
from keras_perceiver.export.shelf import find_export, read_description

CONFIG = "config.json"  # of a run


@dataclass(frozen=True)
class Timing:
    """Calls with one batch: `median`, `p90` and `p99` in milliseconds, and `examples_per_second` at the median."""

    model: str
    runtime: str
    threads: int
    batch_size: int
    median: float
    p90: float
    p99: float
    calls: int
    examples_per_second: float


def benchmark(models, *, batch_sizes=(1, 8, 32), threads=(1, 2), seconds=1.0, picture=None):
    """Times what a server asks of a model, raw arrays in and logits out.

    Each is timed in a process that runs nothing else; the model of a run in float32, whatever it was trained in, as its
    export is.

    Args:
        models: folders: of a SavedModel or a LiteRT file, or of its versions; or of a finished run.
        batch_sizes: examples at once, of noise.
        threads: of the runtime.
        seconds: how long each combination is timed: at least ten calls, or one where a call takes more than a second.
        picture: path of a PNG that is drawn; None for none.

    Returns:
        A list of `Timing`.

    Raises:
        InputError: where there is no such model, or a number is out of its range; before anything is timed.
    """
    require(
        bool(models) and bool(batch_sizes) and bool(threads),
        "`models`, `batch_sizes` and `threads` must not be empty",
        models=list(models),
        batch_sizes=list(batch_sizes),
        threads=list(threads),
    )
    for size in batch_sizes:
        require_positive(batch_size=size)
    for count in threads:
        require_positive(threads=count)
    require_above(0, seconds=seconds)
    if picture is not None:
        legal = Path(picture).suffix.lower() == ".png" and Path(picture).absolute().parent.is_dir()
        require(legal, "`picture` must be a .png in a folder that is there", picture=str(picture))
    found = [(Path(folder), "live") if is_run(folder) else find_export(folder) for folder in models]
    for folder, model_format in found:
        _example_of(folder, model_format)
    timings = []
    for model, count in itertools.product(found, threads):
        timings += time_model(*model, count, batch_sizes, seconds)
    if picture is not None:
        plot_timings(timings, picture)
    return timings


def is_run(folder):
    """Whether a folder is that of a run with a trained model."""
    return all((Path(folder) / name).is_file() for name in ("model.keras", CONFIG))


def time_model(folder, model_format, threads, batch_sizes, seconds, examples=None):
    """The timings of one export, or of the model of a run ("live"), with so many threads; `examples` are
    `{input: (n, ..)}`, None for noise."""
    if examples is None:
        examples = noise(*_example_of(folder, model_format), max(batch_sizes))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "inputs.npz"
        write_inputs(path, {"serving_default": examples})
        # TensorFlow's threads are set once a process.
        process = FreshProcess.of(model_format, None if model_format == "litert" else threads)
        said = process.ask(
            folder,
            endpoints=["serving_default"],
            inputs=str(path),
            threads=threads,
            batch_sizes=list(batch_sizes),
            seconds=seconds,
        )
    return [_timing(folder, said["runtime"], threads, size, said["milliseconds"][str(size)]) for size in batch_sizes]


def served_by(run):
    """`Served` of the model of a run."""
    import keras

    config = read_json_object(Path(run) / CONFIG, "config")
    known = config["source"]
    model = keras.models.load_model(Path(run) / "model.keras", compile=False)
    return Served(model, modality=known["modality"], shape=known["shape"], settings=config["preprocess"])


def _example_of(folder, model_format):
    """`(Modality, shape)` of the examples that a model takes; an `InputError` where its own files do not say so."""
    try:
        if model_format == "live":
            known = read_json_object(folder / CONFIG, "config")["source"]
            return MODALITIES[known["modality"]], tuple(known["shape"])
        known = read_description(folder, model_format)
        return MODALITIES[known["modality"]], tuple(known["example_shape"])
    except (KeyError, TypeError) as error:
        raise InputError(
            f"What lies beside the model in {str(folder)!r} must be keras-perceiver's own. {error!r}"
        ) from error


def timings_table(timings):
    """A `rich` table of timings."""
    table = Table("model", "runtime", "threads", "batch", "calls", "median ms", "90 %", "99 %", "examples/s")
    for timing in timings:
        table.add_row(
            printable(timing.model),
            timing.runtime,
            str(timing.threads),
            str(timing.batch_size),
            str(timing.calls),
            *(f"{value:,.2f}" for value in (timing.median, timing.p90, timing.p99)),
            f"{timing.examples_per_second:,.0f}",
        )
    return table


def plot_timings(timings, path):
    """Draws latency, median to 99 %, and throughput against the batch size, a line for each model and thread count."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    latency, throughput = figure.subplots(1, 2)
    for key in dict.fromkeys((t.model, t.runtime, t.threads) for t in timings):
        some = sorted((t for t in timings if (t.model, t.runtime, t.threads) == key), key=lambda t: t.batch_size)
        sizes = [t.batch_size for t in some]
        label = f"{key[0]}, {key[2]} thread{'' if key[2] == 1 else 's'}"
        (line,) = latency.plot(sizes, [t.median for t in some], marker="o", label=label)
        latency.fill_between(sizes, [t.median for t in some], [t.p99 for t in some], alpha=0.15, color=line.get_color())
        throughput.plot(sizes, [t.examples_per_second for t in some], marker="o", color=line.get_color())
    latency.set(xlabel="batch size", ylabel="milliseconds, median to 99 %", xscale="log", yscale="log")
    throughput.set(xlabel="batch size", ylabel="examples per second", xscale="log", ylim=(0, None))
    latency.legend(fontsize="small")
    figure.savefig(path, dpi=150)


def _timing(model, runtime, threads, batch_size, times):
    median, p90, p99 = (float(value) for value in np.percentile(times, (50, 90, 99)))
    return Timing(str(model), runtime, threads, batch_size, median, p90, p99, len(times), 1000 * batch_size / median)
