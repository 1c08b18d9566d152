"""Time and memory of the ImageNet model as the picture grows: `python tests/benchmarks/scale.py`.

Every size of every form is measured in a process of its own, where memory is the peak of the resident memory above that
of the process with the model built and idle, of the first call with its compilation apart. A line
`a + b M` is fitted to the times of the whole model; how constant b is, is read from the model without its latent
Transformer, whose time does not bury that of the bytes, with all sizes in one process and in turns. The textbook
form goes as far as time and memory allow. Leaves `scale.json` and `scale.png` in `--output`.
"""

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path

from measuring import available_bytes, in_own_process, timed

SMALL = {"num_latents": 4, "latent_dim": 16, "num_bands": 2, "num_blocks": 2, "num_cross_attends": 2}


def measure_model(settings):
    """Seconds and bytes of one pass of one form at one size, in this process."""
    import tensorflow as tf

    import keras_perceiver

    model = keras_perceiver.build_classifier(
        (settings["size"], settings["size"], 3),
        num_classes=1000,
        cross_attention_implementation=settings["implementation"],
        **settings["model"],
    )
    model.compile("sgd", "categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    x = tf.random.stateless_uniform((1, settings["size"], settings["size"], 3), (0, 1), -1, 1)
    y = tf.one_hot([7], 1000)

    def step(x):
        if settings["pass"] == "forward":
            return model(x, training=False)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(y, model(x, training=True)))
        model.optimizer.apply(tape.gradient(loss, model.trainable_variables))
        return loss

    function = tf.function(step, jit_compile=settings["xla"])
    return timed(lambda: function(x).numpy(), settings["repeats"], settings["seconds"])


def measure_in_turns(settings):
    """Median seconds of a forward pass at each of `sizes`, small ones several times a turn."""
    import tensorflow as tf

    import keras_perceiver

    runs = {}
    for size in settings["sizes"]:
        model = keras_perceiver.build_classifier((size, size, 3), num_classes=1000, **settings["model"])
        function = tf.function(lambda x, model=model: model(x, training=False), jit_compile=settings["xla"])
        x = tf.random.stateless_uniform((1, size, size, 3), (0, 1), -1, 1)
        runs[size] = (function, x, [])
        function(x)
    for _ in range(settings["repeats"]):
        for size, (function, x, seconds) in runs.items():
            for _ in range(max(1, 512 // size)):
                start = time.perf_counter()
                function(x).numpy()
                seconds.append(time.perf_counter() - start)
    return {size: statistics.median(seconds) for size, (_, _, seconds) in runs.items()}


def measure(settings):
    """What this process finds out: one model's time and memory, or the time of several sizes in turns."""
    return measure_in_turns(settings) if "sizes" in settings else measure_model(settings)


def measure_all(arguments):
    """Rows `{model, implementation, pass, mode, size, seconds, ..}`."""
    model = SMALL if arguments.small else {}
    kinds = [("whole", "auto", "forward", model), ("whole", "dense", "forward", model)]
    kinds += [("whole", form, "training", model) for form in ("auto", "dense")]
    rows = []
    for (part, form, kind, overrides), mode in itertools.product(kinds, arguments.modes):
        last = None
        for size in arguments.training_sizes if kind == "training" else arguments.sizes:
            growth = (size / last["size"]) ** 2 if last else 0
            too_long = growth * (last or {"seconds": 0})["seconds"] > arguments.limit_seconds
            too_large = growth * (last or {"peak_bytes": 0})["peak_bytes"] > available_bytes()
            if form == "dense" and (too_long or too_large):
                print(f"dense stops before {size}x{size}: too {'long' if too_long else 'large'}", flush=True)
                break
            settings = {"implementation": form, "size": size, "xla": mode == "XLA", "model": overrides, "pass": kind}
            settings |= {"repeats": arguments.repeats, "seconds": arguments.seconds}
            result = in_own_process(__file__, settings)
            if result is None:
                break
            last = {"model": part, "implementation": form, "pass": kind, "mode": mode, "size": size, **result}
            rows.append(last)
            print(
                f"{part:27} {form:6} {kind:9} {mode:4} {size:5}x{size:<5} "
                f"{result['seconds']:8.3f} s {result['peak_bytes'] / 1e6:8.0f} MB "
                f"(first call {result['first_seconds']:.1f} s {result['first_peak_bytes'] / 1e6:.0f} MB)",
                flush=True,
            )
    for mode in arguments.modes:
        overrides = {**model, "num_self_attention_layers": 0}
        options = {"sizes": arguments.sizes, "model": overrides, "xla": mode == "XLA", "repeats": arguments.repeats}
        common = {"model": "without latent Transformer", "implementation": "auto", "pass": "forward", "mode": mode}
        rows += [
            {**common, "size": int(size), "seconds": seconds}
            for size, seconds in (in_own_process(__file__, options) or {}).items()
        ]
    return rows


def fastest(rows, **wanted):
    """The rows with these values, each size at the faster of XLA and not, by size."""
    best = {}
    for row in rows:
        if all(row[key] == value for key, value in wanted.items()) and (
            row["size"] not in best or row["seconds"] < best[row["size"]]["seconds"]
        ):
            best[row["size"]] = row
    return [best[size] for size in sorted(best)]


def fit_line(rows):
    """(a, b) of `a + b M`, by relative least squares."""
    import numpy as np

    seconds = np.array([row["seconds"] for row in rows])
    lengths = np.array([row["size"] ** 2 for row in rows], float)
    return np.linalg.lstsq(np.stack([1 / seconds, lengths / seconds], 1), np.ones_like(seconds), rcond=None)[0]


def slopes(rows):
    """b between sizes four times apart in M at least: `[(size, next size, seconds per byte)]`."""
    pairs, start = [], rows[0]
    for row in rows[1:]:
        if row["size"] >= 4 * rows[0]["size"]:
            pairs.append((start, row))
            start = row
    return [(a["size"], b["size"], (b["seconds"] - a["seconds"]) / (b["size"] ** 2 - a["size"] ** 2)) for a, b in pairs]


def report(rows):
    """Prints the line, its slopes and what both forms need."""
    whole = fastest(rows, model="whole", implementation="auto", **{"pass": "forward"})
    if len(whole) > 1:
        a, b = fit_line(whole)
        off = max(abs(a + b * row["size"] ** 2 - row["seconds"]) / row["seconds"] for row in whole)
        print(f"forward, whole model: {a:.2f} s + {b * 1e9:.0f} ns M, at most {off:.1%} from the times")
    pairs = slopes(fastest(rows, model="without latent Transformer", implementation="auto", **{"pass": "forward"}))
    for small, large, slope in pairs:
        print(f"b from {small}x{small} to {large}x{large}: {slope * 1e9:.0f} ns")
    if pairs:
        middle = statistics.median(slope for *_, slope in pairs)
        spread = max(abs(slope / middle - 1) for *_, slope in pairs)
        print(f"b is constant within {spread:.1%} of its median, {middle * 1e9:.0f} ns")


def plot(rows, path):
    """Time and memory against M, logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for kind, marker in (("forward", "o"), ("training", "s")):
        for form, colour in (("auto", "C0"), ("dense", "C3")):
            best = fastest(rows, model="whole", implementation=form, **{"pass": kind})
            label = f"{'factored' if form == 'auto' else 'textbook'}, {kind}"
            style = {"marker": marker, "color": colour, "linestyle": "-" if kind == "forward" else "--", "label": label}
            lengths = [row["size"] ** 2 for row in best]
            axes[0].loglog(lengths, [row["seconds"] for row in best], **style)
            axes[1].loglog(lengths, [row["peak_bytes"] / 1e9 for row in best], **style)
    whole = fastest(rows, model="whole", implementation="auto", **{"pass": "forward"})
    if len(whole) > 1:
        a, b = fit_line(whole)
        lengths = [row["size"] ** 2 for row in whole]
        label = f"{a:.2f} s + {b * 1e9:.0f} ns M"
        axes[0].loglog(lengths, [a + b * length for length in lengths], ":", color="black", label=label)
    axes[0].set_ylabel("seconds, one picture")
    axes[1].set_ylabel("GB above the idle process")
    for axis in axes:
        axis.set_xlabel("inputs M")
        axis.grid(alpha=0.3, which="both")
        axis.legend()
    figure.suptitle("The paper's ImageNet model, batch 1")
    figure.savefig(path, dpi=120)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512, 1024, 2048])
    parser.add_argument("--training-sizes", type=int, nargs="*", default=[224, 2048])
    parser.add_argument("--modes", nargs="+", choices=("XLA", "ops"), default=["XLA", "ops"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=20.0, help="at most, for the repeats of one measurement")
    parser.add_argument("--limit-seconds", type=float, default=90.0, help="of one call of the textbook form")
    parser.add_argument("--small", action="store_true", help="a tiny model in place of the paper's")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args(arguments)
    if arguments.measure:
        print(json.dumps(measure(json.loads(arguments.measure))))
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = measure_all(arguments)
    (arguments.output / "scale.json").write_text(json.dumps(rows, indent=1))
    plot(rows, arguments.output / "scale.png")
    report(rows)


if __name__ == "__main__":
    main()
