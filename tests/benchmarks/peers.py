"""The ImageNet model beside what others have published: `python tests/benchmarks/peers.py --krasserm PATH`.

Needs the extra `peers` (`pip install -e ".[peers]"`) and, for krasserm's Perceiver, a checkout of
https://github.com/krasserm/perceiver-io; what is not installed is left out, and said. Nothing else should run on the
machine: of the order of five hours on two cores with the defaults, `--rounds 1` a third of that. What has been measured
is in `peers.unfinished.json` at once, and the same command goes on where it was broken off.

Every measurement is a process of its own: a first call, then the median of several. Rounds go over all libraries in
turns, so that the machine's drift falls on all of them alike, and the tables have the median of the rounds. Memory is
resident memory above the idle process that has built its model, of the calls after the first (on a GPU, what the
library says it had allocated at most); a training step includes Adam and its state. The C library keeps freed memory
for all of them, as `keras-perceiver train` tells it to. Beside the times stands the rate of matrix products of each
library at the model's own shapes, without which a ratio says little of the model.

Leaves `peers.json` and `peers.png` in `--output`. With `KERAS_BACKEND=jax` or `torch` our model runs there, on a GPU
where the backend sees one. There JAX multiplies float32 by TensorFloat-32 and PyTorch does not, unless both are told:
`JAX_DEFAULT_MATMUL_PRECISION=highest`, or `TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1`.
"""

import argparse
import functools
import importlib.util
import itertools
import json
import math
import os
import statistics
import time
from pathlib import Path

from measuring import MODES, backend, in_own_process, memory_module, timed
from peer_models import BUILDERS, build_ours

IMAGENET = {"latents": 512, "dim": 1024, "bands": 64, "blocks": 8, "layers": 6, "heads": 8, "classes": 1000}
BUDGETS = {
    "full": {"cases": {"224x224, batch 1": (224, 1), "64x64, batch 8": (64, 8)}, "model": IMAGENET},
    # Six layers of 64 latents of 128 channels for 128 examples: what a laptop trains.
    "small": {
        "cases": {"32x32, batch 128": (32, 128)},
        "model": {"latents": 64, "dim": 128, "bands": 8, "blocks": 1, "layers": 6, "heads": 8, "classes": 10},
    },
    "gpu": {"cases": {"224x224, batch 8": (224, 8)}, "model": IMAGENET},
    "tiny": {
        "cases": {"8x8, batch 2": (8, 2)},
        "model": {"latents": 6, "dim": 16, "bands": 2, "blocks": 2, "layers": 1, "heads": 2, "classes": 10},
    },
}
PASSES = ("forward", "training")
TORCH_MODES = ("eager", "compiled")

# name: what it is, and in what it differs from the paper's model
LIBRARIES = {
    "ours": "keras_perceiver",
    "textbook": 'keras_perceiver, cross_attention_implementation="dense"',
    "krasserm": "perceiver-io, its encoder with our head: the same model",
    "huggingface": "transformers, 1 cross-attend in place of 8, and a decoder with 1 more over the latents",
    "lucidrains": "perceiver-pytorch, MLPs of 8 times the width into a GEGLU, the first block unshared",
}
REQUIRED = {"krasserm": ("torch", "einops", "fairscale"), "huggingface": ("torch", "transformers")}
REQUIRED["lucidrains"] = ("torch", "perceiver_pytorch")


def examples(settings):
    """Pictures (B, S, S, 3) and their classes (B,)."""
    import numpy as np

    rng = np.random.default_rng(0)
    size, batch = settings["size"], settings["batch"]
    return rng.uniform(-1, 1, (batch, size, size, 3)).astype("float32"), rng.integers(
        settings["model"]["classes"], size=batch
    )


def our_step(settings):
    """`(step, parameters)` of a Keras model."""
    import keras

    if settings["precision"] == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    model, (x, y) = build_ours(settings), examples(settings)
    if settings["pass"] == "forward":
        return functools.partial(model.predict_on_batch, x), model.count_params()
    return functools.partial(model.train_on_batch, x, y), model.count_params()


def torch_step(settings):
    """`(step, parameters)` of a PyTorch module."""
    import torch

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = BUILDERS[settings["library"]](settings).to(device)
    parameters = sum(p.numel() for p in module.parameters())
    x, y = (torch.from_numpy(array).to(device) for array in examples(settings))
    compiled = torch.compile(module) if settings["mode"] == "compiled" else module

    def run(x):
        with torch.autocast(device, torch.bfloat16, enabled=settings["precision"] == "bfloat16"):
            return compiled(x)

    if settings["pass"] == "forward":
        module.eval()

        def forward():
            with torch.inference_mode():
                return run(x).float().cpu()

        return forward, parameters
    optimizer = torch.optim.Adam(module.parameters())

    def train():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(run(x).float(), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return train, parameters


def device_peak_bytes(library):
    """The most memory that a library had allocated on a GPU; None without one."""
    if library in BUILDERS or backend() == "torch":
        import torch

        return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    if backend() == "jax":
        import jax

        return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    import tensorflow as tf

    return tf.config.experimental.get_memory_info("GPU:0")["peak"] if tf.config.list_physical_devices("GPU") else None


def measure_model(settings):
    """Seconds, bytes and number of parameters of one pass of one library, in this process."""
    memory_module().keep_freed_memory()
    step, parameters = (torch_step if settings["library"] in BUILDERS else our_step)(settings)
    warm_up = 2 if settings["mode"] == "compiled" else 1  # PyTorch may compile anew at the second call
    result = timed(step, settings["repeats"], settings["seconds"], warm_up) | {"parameters": parameters}
    on_device = device_peak_bytes(settings["library"])
    return result if on_device is None else result | {"peak_bytes": on_device, "idle_bytes": 0}


def product_rate(settings):
    """FLOP/s of products as the latent Transformer has them: (B·N, D) by (D, D), of heads, (N, k) by (k, N) and (N, N)
    by (N, k), and of all that one layer has, forward."""
    model, rows = settings["model"], settings["batch"] * settings["model"]["latents"]
    heads, width = settings["batch"] * model["heads"], model["dim"] // model["heads"]
    shapes = {
        "projection": ((rows, model["dim"]), (model["dim"], model["dim"])),
        "heads": ((heads, model["latents"], width), (heads, width, model["latents"])),
        "values": ((heads, model["latents"], model["latents"]), (heads, model["latents"], width)),
    }
    product, tensor = (torch_product if settings["library"] == "torch" else keras_product)(settings["precision"])
    rates, flops, seconds = {}, 0, 0.0
    for name, (a, b) in shapes.items():
        operands, times = (tensor(a), tensor(b)), []
        while len(times) < 3 or (sum(times) < 1.0 and len(times) < 100):
            start = time.perf_counter()
            product(*operands)
            times.append(time.perf_counter() - start)
        one, count = (
            2 * math.prod(a) * b[-1],
            {"projection": 6}.get(name, 1),
        )  # three of them make queries, keys, values
        rates[name] = one / statistics.median(times[1:])
        flops, seconds = flops + count * one, seconds + count * one / rates[name]
    return {**rates, "layer": flops / seconds}


def torch_product(precision):
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def product(a, b):
        result = torch.matmul(a, b)
        return result.flatten()[0].item()  # waits

    tensor = functools.partial(torch.rand, device=device, dtype=getattr(torch, precision))
    return torch.inference_mode()(product), tensor


def keras_product(precision):
    import keras
    from measuring import compiled, wait

    product = compiled(keras.ops.matmul, MODES[backend()][-1])
    tensor = functools.partial(keras.random.uniform, dtype=precision, seed=0)
    return (lambda a, b: wait(product(a, b))), tensor


def available(library, arguments):
    """Why a library cannot be measured, or None."""
    missing = [name for name in REQUIRED.get(library, ()) if importlib.util.find_spec(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return "no --krasserm PATH" if library == "krasserm" and arguments.krasserm is None else None


def modes(library):
    return TORCH_MODES if library in BUILDERS else MODES[backend()]


def measure(settings):
    """What this process finds out: the rate of products, or a model's time and memory."""
    return product_rate(settings) if "rate" in settings else measure_model(settings)


def measurements(asked):
    """`(kind, key, settings)` of each, in the order of running: "rates" or "rows", and what is measured."""
    common = {name: asked[name] for name in ("model", "repeats", "seconds", "krasserm", "precision")}
    rates_of = [asked["backend"]]
    rates_of += ["torch"] if set(asked["libraries"]) & set(BUILDERS) and asked["backend"] != "torch" else []
    for round_, (case, (size, batch)) in itertools.product(range(asked["rounds"]), asked["cases"].items()):
        for library in rates_of:
            key = {"round": round_, "case": case, "library": library}
            yield "rates", key, {**common, "library": library, "batch": batch, "rate": True}
        for pass_, library in itertools.product(asked["passes"], asked["libraries"]):
            for mode in modes(library):
                key = {"round": round_, "case": case, "pass": pass_, "library": library, "mode": mode}
                yield "rows", key, {**common, **key, "size": size, "batch": batch}


def measure_all(arguments):
    """`(rows, rates)`: what each process found, in the order of running."""
    budget, libraries = BUDGETS[arguments.budget], []
    for library in arguments.libraries:
        reason = available(library, arguments)
        print(f"{library}: {reason}, left out" if reason else f"{library}: {LIBRARIES[library]}", flush=True)
        libraries += [] if reason else [library]
    wanted = arguments.sizes or [size for size, _ in budget["cases"].values()]
    asked = {name: getattr(arguments, name) for name in ("precision", "rounds", "repeats", "seconds", "passes")} | {
        "backend": backend(),
        "libraries": libraries,
        "model": budget["model"],
        "krasserm": str(arguments.krasserm),
        "cases": {case: list(shape) for case, shape in budget["cases"].items() if shape[0] in wanted},
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    path, dead = arguments.output / "peers.unfinished.json", set()
    state = broken_off(path, asked) or {"asked": asked, "rows": [], "rates": []}
    for kind, key, settings in measurements(asked):
        model, done = tuple(key.values())[1:], state[kind]
        if model in dead or any(key.items() <= other.items() for other in done):
            continue
        found = in_own_process(__file__, settings)
        if found is None:
            dead.add(model)
            continue
        done.append({**key, **found})
        save(path, state)
        if kind == "rows":
            print(key["round"] + 1, *model, f"{found['seconds']:.3f} s {found['peak_bytes'] / 1e9:.2f} GB", flush=True)
    save(arguments.output / "peers.json", state)
    path.unlink(missing_ok=True)  # there is none where every process has died
    return state["rows"], state["rates"]


def broken_off(path, asked):
    """What the same command has left in the file; None where there is no such thing."""
    state = json.loads(path.read_text()) if path.is_file() else {}
    if state.get("asked") != asked:
        return None
    print(f"goes on behind {len(state['rows']) + len(state['rates'])} measurements of {path}", flush=True)
    return state


def save(path, state):
    """Whole, or not at all."""
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(state, indent=1))
    os.replace(temporary, path)


def medians(rows):
    """One row for each case, pass, library and mode: medians over the rounds."""
    groups = {}
    for row in rows:
        groups.setdefault((row["case"], row["pass"], row["library"], row["mode"]), []).append(row)
    return [
        dict(zip(("case", "pass", "library", "mode"), key, strict=True))
        | {name: statistics.median(r[name] for r in group) for name in ("seconds", "peak_bytes", "first_seconds")}
        | {"parameters": group[0]["parameters"]}
        for key, group in groups.items()
    ]


def fastest(rows, **wanted):
    """The fastest of the rows with these values; None without any."""
    return min((r for r in rows if all(r[k] == v for k, v in wanted.items())), key=lambda r: r["seconds"], default=None)


def report(rows, rates):
    """Prints a table for each case and pass, and each library's rate of products."""
    rows = medians(rows)
    for case, kind in dict.fromkeys((row["case"], row["pass"]) for row in rows):
        ours = fastest(rows, case=case, library="ours", **{"pass": kind})
        print(f"\n{case}, {kind}")
        print(f"{'':21} {'s':>8} {'GB':>6} {'first s':>8} {'parameters':>11} {'ours is faster by':>18}")
        for row in (row for row in rows if (row["case"], row["pass"]) == (case, kind)):
            ratio = f"{row['seconds'] / ours['seconds']:18.2f}" if ours else ""
            print(
                f"{row['library']:12} {row['mode']:8} {row['seconds']:8.3f} {row['peak_bytes'] / 1e9:6.2f} "
                f"{row['first_seconds']:8.1f} {row['parameters']:11,} {ratio}"
            )
    print("\nGFLOP/s of matrix products: (B·N, D) by (D, D); heads, (N, k) by (k, N); all of a layer")
    for case, library in dict.fromkeys((rate["case"], rate["library"]) for rate in rates):
        own = [rate for rate in rates if (rate["case"], rate["library"]) == (case, library)]
        found = [statistics.median(rate[name] for rate in own) / 1e9 for name in ("projection", "heads", "layer")]
        print(f"{case:18} {library:12} {found[0]:8.0f} {found[1]:8.0f} {found[2]:8.0f}")


def plot(rows, rates, precision, path):
    """Seconds and memory of each library at its faster mode."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = medians(rows)
    cases = list(dict.fromkeys((row["case"], row["pass"]) for row in rows))
    libraries = [library for library in LIBRARIES if any(row["library"] == library for row in rows)]
    figure, axes = plt.subplots(
        2, len(cases), figsize=(3.2 * len(cases) + 1.5, 5.4), layout="constrained", squeeze=False
    )
    for column, (case, kind) in enumerate(cases):
        best = [fastest(rows, case=case, library=library, **{"pass": kind}) for library in libraries]
        kinds = (("seconds", "seconds", 1), ("peak_bytes", "GB", 1e9))
        for axis, (name, unit, scale) in zip(axes[:, column], kinds, strict=True):
            shown = [(library, row) for library, row in zip(libraries, best, strict=True) if row]
            values = [row[name] / scale for _, row in shown]
            labels = [f"{library}\n{row['mode']}" for library, row in shown]
            bars = axis.barh(labels, values, color=[f"C{libraries.index(library)}" for library, _ in shown])
            axis.bar_label(bars, fmt="%.3g", padding=2)
            axis.invert_yaxis()
            axis.margins(x=0.2)
            axis.set_xlabel(unit)
        axes[0, column].set_title(f"{case}\n{kind}")
    speeds = ", ".join(
        f"{library} {statistics.median(rate['projection'] for rate in rates if rate['library'] == library) / 1e9:.0f}"
        for library in dict.fromkeys(rate["library"] for rate in rates)
    )
    title = f"The paper's ImageNet model, {precision}. GFLOP/s of the libraries' products here: {speeds}"
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=120)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--krasserm", type=Path, help="checkout of krasserm's perceiver-io")
    parser.add_argument("--libraries", nargs="+", choices=list(LIBRARIES), default=list(LIBRARIES))
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=list(PASSES))
    parser.add_argument("--budget", choices=list(BUDGETS), default="full")
    parser.add_argument("--sizes", nargs="+", type=int, help="of the budget's pictures, in place of all")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="bfloat16: mixed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3, help="calls after the first one, in each process")
    parser.add_argument("--seconds", type=float, default=20.0, help="at most, for the repeats; one is made in any case")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args(arguments)
    if arguments.measure:
        print(json.dumps(measure(json.loads(arguments.measure))))
        return
    rows, rates = measure_all(arguments)
    report(rows, rates)
    plot(rows, rates, arguments.precision, arguments.output / "peers.png")


if __name__ == "__main__":
    main()
