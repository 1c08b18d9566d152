"""What is lost on the way to a server and to a telephone: a model of each modality, exported in every format.

    python tests/benchmarks/exports.py --epochs 10 --audio recordings --video actions
    python tests/benchmarks/exports.py --imagenet

Each model is trained for a few epochs with the recipe of its modality, exported as a SavedModel and as LiteRT files,
and measured on its test split. Pictures are the digits that come with scikit-learn; what no folder is named for is
synthetic, and named so. `--imagenet` exports the paper's model, with weights that were drawn, and times it in turns
with the live one. Leaves exports.json in `--output`.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests write small files of every kind

from keras_perceiver._checks import InputError
from keras_perceiver.cli_options import table_console
from keras_perceiver.export import QUANTIZE, export_litert, export_saved_model
from keras_perceiver.models import build_preset
from keras_perceiver.training import export_run, train
from keras_perceiver.training.exports import LEAST
from tests.films import CODECS, SOUND_RATE, sound_packets
from tests.sounds import sine, write_sounds

SMALL = {"num_latents": 16, "latent_dim": 32, "num_blocks": 2, "num_cross_attends": 1, "num_self_attention_layers": 2}
SMALL |= {"num_self_attention_heads": 2, "num_bands": 4}
MODALITIES = ("image", "audio", "video", "audio_video", "points")
OPTIONS = {"video": {"frame_size": 32, "num_frames": 8}, "audio_video": {"frame_size": 32, "num_frames": 4}}
OPTIONS |= {"audio": {"clip_seconds": 0.5}, "points": {"num_points": 256}}
TOLERANCES = {"saved_model": 1e-5, "none": 1e-4}  # of the largest logit
POINTS = {"float16": 0.2, "dynamic": 1.0}  # of accuracy
EXPORT_SECONDS = {"saved_model": 120, "litert": 120}  # of the ImageNet model
TIMES_LIVE = {"saved_model": 1.1, "litert": 1.5}


def write_films(folder, count, *, with_sound):
    """Three classes of films: a bright square goes right, goes left, or stands; each with a pitch of its own."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("right", "left", "still")):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            top, start = rng.integers(0, 20, 2)
            with av.open(str(folder / name / f"{i}.mp4"), "w") as file:
                track = file.add_stream(CODECS["mp4"], rate=8, options={"qscale": "2"})
                track.height = track.width = 32
                track.pix_fmt = "yuv420p"
                packets = []
                if with_sound:
                    sound = sound_packets(file, "mp4", sine(300 * 2**number + 5 * i, 1.0, SOUND_RATE))
                    next(sound)
                    packets = list(sound)
                for frame in range(8):
                    pixels = np.zeros((32, 32, 3), np.uint8)
                    left = (start + (3, -3, 0)[number] * frame) % 24
                    pixels[top : top + 8, left : left + 8] = 220
                    packets += track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
                file.mux([*packets, *track.encode()])


def write_clouds(folder, count):
    """Three classes of clouds, in any position: a ball, a cube, a ring."""
    rng = np.random.default_rng(0)
    for name in ("ball", "cube", "ring"):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            points = rng.normal(size=(int(rng.integers(200, 300)), 3))
            if name == "ring":
                points[:, 2] *= 0.05
            size = np.abs(points).max(axis=1) if name == "cube" else np.linalg.norm(points, axis=1)
            np.save(folder / name / f"{i}.npy", (points / size[:, None]).astype(np.float32))


def find_data(modality, path, folder, count):
    """(what `train` takes, what it is called)."""
    if path is not None:
        return path, Path(path).name
    if modality == "image":
        return "digits", "real: digits"
    folder = folder / f"synthetic_{modality}"
    if modality == "audio":
        write_sounds(folder, dict.fromkeys(("low", "middle", "high"), count))
    elif modality == "points":
        write_clouds(folder, count)
    else:
        write_films(folder, count, with_sound=modality == "audio_video")
    return folder, "synthetic"


def measure(modality, data, called, folder, epochs):
    """Rows of one modality: a SavedModel, and a LiteRT file for each kind of quantisation."""
    run, shelf, network = folder / f"run_{modality}", folder / "shelf", {} if modality == "image" else SMALL
    source = {"modality": modality, **OPTIONS.get(modality, {})} if data != "digits" else {}
    metrics = train(data, output=run, shelf=shelf, source=source, model=network, recipe={"epochs": epochs})
    report = json.loads((Path(metrics["export"]) / "assets.extra" / "parity.json").read_text())
    known = {"modality": modality, "data": called, "accuracy": metrics["accuracy"], "examples": metrics["examples"]}
    answers = [outputs["logits"] for outputs in report["endpoints"].values() if "logits" in outputs]
    worst = max(difference["relative"] for difference in answers)
    yield {**known, "format": "saved_model", "quantize": "", "difference": worst, "lost": 0.0}
    for quantize in QUANTIZE:
        row = {**known, "format": "litert", "quantize": quantize}
        try:
            export = export_run(run, export_format="litert", quantize=quantize, shelf=shelf)
        except InputError as error:
            yield {**row, "refused": str(error)}
            continue
        report = export.report
        lost = 100 * (report["model_figure"] - report["figure"])
        sizes = {"bytes": report["bytes"], "milliseconds": report["latency"]["1"]["median"]}
        yield {**row, "difference": report["logit_difference"], "lost": lost, **sizes}


def imagenet(folder, preset, rounds):
    """The paper's model: how long its exports take, and how long one picture takes, live and exported, in turns."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    from keras_perceiver.export.endpoints import Served

    model = build_preset(preset)
    kernel = model.get_layer("logits").kernel
    kernel.assign(np.random.default_rng(0).normal(size=kernel.shape, scale=0.03))
    names, shelf = [str(i) for i in range(model.output_shape[-1])], folder / "shelf"
    # As many as `keras-perceiver export` takes of such a model.
    pictures = {"image": np.random.default_rng(0).integers(0, 256, (LEAST, *model.input_shape[1:])).astype(np.float32)}
    seconds = {}
    began = time.perf_counter()
    saved = export_saved_model(model, preset, names, shelf=shelf, examples=pictures)
    seconds["saved_model"] = time.perf_counter() - began
    began = time.perf_counter()
    lite = export_litert(model, preset, names, shelf=shelf, examples=pictures)
    seconds["litert"] = time.perf_counter() - began
    one = {"image": pictures["image"][:1]}
    forward = tf.function(Served(model).forward, autograph=False)
    loaded = tf.saved_model.load(saved.folder)
    endpoint = loaded.signatures["serving_default"]
    threads = len(os.sched_getaffinity(0))
    runner = Interpreter(str(lite.folder / "model.tflite"), num_threads=threads).get_signature_runner()
    asked = {
        "live": lambda: forward({"image": tf.constant(one["image"])})["logits"].numpy(),
        "saved_model": lambda: endpoint(image=tf.constant(one["image"]))["logits"].numpy(),
        "litert": lambda: runner(**one)["logits"],
    }
    times = {name: [] for name in asked}
    for number in range(rounds + 1):
        for name, ask in asked.items():
            began = time.perf_counter()
            ask()
            if number:  # the first round is not counted
                times[name].append(time.perf_counter() - began)
    median = {name: statistics.median(values) for name, values in times.items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(times[name], times["live"], strict=True))
        for name in ("saved_model", "litert")
    }
    return {"preset": preset, "threads": threads, "export_seconds": seconds, "seconds": median, "times_live": ratios}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modalities", nargs="*", default=None, choices=MODALITIES)
    for modality in MODALITIES:
        parser.add_argument(f"--{modality.replace('_', '-')}", help="data, as `keras-perceiver train` takes them")
    parser.add_argument("--count", type=int, default=60, help="files of a synthetic class")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--imagenet", action="store_true")
    parser.add_argument("--preset", default="imagenet", help="of --imagenet")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("."))
    options = parser.parse_args(arguments)
    modalities = options.modalities or (() if options.imagenet else MODALITIES)
    found, rows = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for modality in modalities:
            data, called = find_data(modality, getattr(options, modality), Path(folder), options.count)
            rows += measure(modality, data, called, Path(folder), options.epochs)
        if options.imagenet:
            found["imagenet"] = imagenet(Path(folder), options.preset, options.rounds)
    found["rows"] = rows
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "exports.json").write_text(json.dumps(found, indent=1) + "\n")
    return report(found)


def report(found):
    """Prints the figures, and what misses its limit; how many do."""
    console, num_missed = table_console(), 0

    def say(line, missed):
        console.print(line + ("  MISSED" if missed else ""), soft_wrap=True, markup=False, highlight=False)
        return bool(missed)

    for row in found["rows"]:
        line = f"{row['modality']:12} {row['data']:20} {row['format']:12} {row['quantize']:8} "
        if "refused" in row:
            console.print(f"{line} refused: {row['refused']}", soft_wrap=True, markup=False, highlight=False)
            num_missed += 1
            continue
        missed = row["difference"] > TOLERANCES.get(row["quantize"] or row["format"], np.inf)
        missed |= row["lost"] > POINTS.get(row["quantize"], np.inf)
        line += f"difference {row['difference']:.1e}  accuracy {row['accuracy']:.2%}  lost {row['lost']:.2f} points"
        line += f"  of {row['examples']:,}"
        if "bytes" in row:
            line += f"  {row['bytes']:,} bytes  {row['milliseconds']:.2f} ms"
        num_missed += say(line, missed)
    if "imagenet" in found:
        one = found["imagenet"]
        for name, seconds in one["export_seconds"].items():
            num_missed += say(
                f"{one['preset']}: {name} exported in {seconds:.1f} s", seconds > EXPORT_SECONDS.get(name, np.inf)
            )
        for name, seconds in one["seconds"].items():
            times = one["times_live"].get(name, 1.0)
            line = f"{one['preset']}: {name} {seconds:.2f} s, {times:.2f} times live"
            num_missed += say(line, times > TIMES_LIVE.get(name, np.inf))
    return num_missed


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
