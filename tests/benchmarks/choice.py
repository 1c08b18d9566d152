"""Is what `auto` chooses ever slower than the textbook form? `python tests/benchmarks/choice.py`.

Times every exact form of one cross-attend from 8x8 inputs and 16 latents up, for one head and for eight narrow ones,
one example and a batch, Fourier and learned positions. Prints for each what `auto` takes and its time in units of the
textbook form's, forward and with gradients, each form at the faster of XLA and not, and without XLA alone. With
`--calibrate`, fits the weights of the cost formula in `keras_perceiver/implementations.py` to the times.
"""

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path

import numpy as np
from cross_attention import build

from keras_perceiver.implementations import IMPLEMENTATIONS, Problem, choose_implementation, features

PASSES = ("forward", "gradients")


def shapes(arguments):
    """Every combination whose textbook form stays below `--limit-gflop` products forward."""
    grid = itertools.product(arguments.sizes, arguments.latents, arguments.heads, arguments.batches)
    for size, latents, heads, batch in grid:
        bands = min(64, max(4, size // 2))
        channels = 2 * (2 * bands + 1) + 3
        if 4 * batch * size**2 * channels * (channels + latents) < arguments.limit_gflop * 1e9:
            for positions in ("fourier", "learned") if heads == 1 else ("fourier",):
                yield {
                    "size": size,
                    "latents": latents,
                    "latent_dim": 128,
                    "heads": heads,
                    "head_dim": None if heads == 1 else 16,
                    "batch": batch,
                    "bands": bands,
                    "positions": positions,
                    "memory_budget": None,
                }


def problem(shape):
    """What the choice is made from."""
    size, channels = shape["size"], 2 * (2 * shape["bands"] + 1)
    axis = 2 * shape["bands"] + 1
    tables = [(size, 1, axis), (1, size, axis)]
    if shape["positions"] == "learned":
        channels, tables = 128, [(size, size, 128)]
    segment = {"content": (shape["batch"], size, size, 3), "tables": tables}
    width = shape["heads"] * (shape["head_dim"] or channels + 3)
    return Problem({"": segment}, shape["latents"], shape["heads"], width)


def measure(shape, seconds):
    """Median seconds of `{implementation/pass/mode}`, in turns."""
    runs = {}
    for implementation in IMPLEMENTATIONS:
        runs |= build(implementation, argparse.Namespace(**shape))
    for run in runs.values():
        run()
    times, start = {key: [] for key in runs}, time.perf_counter()
    while len(times[key := next(iter(times))]) < 5 or (time.perf_counter() - start < seconds and len(times[key]) < 50):
        for key, run in runs.items():
            begin = time.perf_counter()
            run()
            times[key].append(time.perf_counter() - begin)
    return {"/".join(key): statistics.median(t) for key, t in times.items()}


def ratios(seconds, chosen):
    """Time of the chosen form in units of the textbook form's: by pass, at the faster of both modes and without XLA."""
    result = {}
    for kind in PASSES:
        fastest = {form: min(seconds[f"{form}/{kind}/{mode}"] for mode in ("ops", "XLA")) for form in (chosen, "dense")}
        result[kind] = fastest[chosen] / fastest["dense"]
        result[f"{kind} ops"] = seconds[f"{chosen}/{kind}/ops"] / seconds[f"dense/{kind}/ops"]
    return result


def calibrate(rows):
    """Prints the weights of `features` that fit the times of each form best, in multiply-adds."""
    from scipy.optimize import nnls

    weights = {}
    for form in IMPLEMENTATIONS:
        times = [
            [row["seconds"][f"{form}/{kind}/{mode}"] for kind in PASSES for mode in ("ops", "XLA")] for row in rows
        ]
        seconds = np.exp(np.mean(np.log(times), axis=1))  # whichever way it is run
        known = np.array([features(form, problem(row["shape"])) for row in rows], float)
        weights[form], _ = nnls(known / seconds[:, None], np.ones(len(rows)))
    unit = next(weight for weight in weights["dense"] if weight)  # of few shapes, products may have no part
    for form in IMPLEMENTATIONS:
        print(f"{form:9}", " ".join(f"{weight / unit:10.3g}" for weight in weights[form]))


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--latents", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--heads", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--limit-gflop", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=1.5, help="for one shape, after tracing and compiling")
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument(
        "--times", type=Path, help="JSON lines that keep the times: shapes found there are not run again"
    )
    arguments = parser.parse_args(arguments)
    kept = arguments.times.read_text().splitlines() if arguments.times and arguments.times.exists() else []
    known = {json.dumps(row["shape"]): row for row in map(json.loads, kept)}
    rows = []
    for shape in shapes(arguments):
        row = known.get(json.dumps(shape)) or {"shape": shape, "seconds": measure(shape, arguments.seconds)}
        rows.append(row)
        print(".", end="", flush=True)
        if arguments.times and json.dumps(shape) not in known:
            with arguments.times.open("a") as file:
                file.write(json.dumps(row) + "\n")
    print()
    if arguments.calibrate:
        calibrate(rows)
    columns = [f"{kind}{mode}" for mode in ("", " ops") for kind in PASSES]
    names = ("size", "latents", "heads", "batch", "positions")
    print(*(f"{name:>9}" for name in (*names, "chosen")), *(f"{column:>13}" for column in columns))
    worst = dict.fromkeys(columns, 0.0)
    for row in rows:
        chosen = choose_implementation(problem(row["shape"]))
        ratio = ratios(row["seconds"], chosen)
        worst = {column: max(worst[column], ratio[column]) for column in columns}
        cells = [row["shape"][name] for name in names]
        print(*(f"{cell:>9}" for cell in (*cells, chosen)), *(f"{ratio[column]:13.2f}" for column in columns))
    print("slowest, in units of the textbook form:", ", ".join(f"{name} {value:.2f}" for name, value in worst.items()))


if __name__ == "__main__":
    main()
