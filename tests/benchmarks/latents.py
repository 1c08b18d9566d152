"""What the latent Transformer costs beside its matrix products: `python tests/benchmarks/latents.py`.

Times a stack of self-attention layers, forward and with gradients, and in turns with it the matrix products that it is
made of, each alone at its own shape: what stands above 1 is what is not a product. `--profile` adds where the time of
the stack goes, by kind of operation and summed over threads (TensorFlow's profiler), and the rate of each product.

Sizes, each of six layers: `imagenet` is a block of the paper's ImageNet model for one picture, `small` 64 latents of
128 channels for 128 examples, `few` 16 of them for 64, as our presets have. `--heads` compares numbers of heads.
Nothing else should run on the machine.
"""

import argparse
import collections
import math
import re
import tempfile
from pathlib import Path

import keras
from measuring import MODES, backend, compiled, gradients, in_turns, memory_module, wait

from keras_perceiver.layers import LatentTransformer

SIZES = {
    "imagenet": {"batch": 1, "latents": 512, "channels": 1024, "layers": 6, "heads": 8},
    "small": {"batch": 128, "latents": 64, "channels": 128, "layers": 6, "heads": 8},
    "few": {"batch": 64, "latents": 16, "channels": 128, "layers": 6, "heads": 8},
    "tiny": {"batch": 2, "latents": 4, "channels": 16, "layers": 1, "heads": 4},
}
PASSES = ("forward", "training")
PROFILED_CALLS = 3
CALLS = 4  # products that are timed together: one alone would be timed with the call itself
KINDS = {  # of operations and of XLA's fusions, the first whose pattern is found in a name
    "products": r"MatMul|^dot",
    "sums over rows or channels": r"reduce|Sum|Mean|BiasAddGrad",
    "softmax": r"Softmax|exponential",
    "transposes and copies": r"transpose|copy|slice|concat|pack|split|tile",
    "the rest, element by element": r"",
}
# What holds others in a trace, or waits for them.
ENVELOPES = (
    r"::|__inference|^(Eager|Execut|TFE_|Block|Kernel|Function|Parallel|Thunk|tf\.|_|convert_to|python|<|Validate)"
)


def products(size, kind):
    """`[(how many, shape, shape)]`: the matrix products of one layer; with gradients each has two more of its size."""
    rows, channels = size["batch"] * size["latents"], size["channels"]
    heads, width = size["batch"] * size["heads"], channels // size["heads"]
    length = size["latents"]
    forward = [
        (1, (rows, channels), (channels, 3 * channels)),
        (3, (rows, channels), (channels, channels)),
        (1, (heads, length, width), (heads, width, length)),
        (1, (heads, length, length), (heads, length, width)),
    ]
    if kind == "forward":
        return forward
    return forward + [part for count, a, b in forward for part in backward(count, a, b)]


def backward(count, a, b):
    """Those of the gradients of (.., n, m) by (.., m, p): with respect to both factors."""
    *batch, n, m = a
    p = b[-1]
    return [(count, (*batch, n, p), (*batch, p, m)), (count, (*batch, m, n), (*batch, n, p))]


def flops(size, kind):
    """Of the matrix products of all layers."""
    found = 0
    for count, a, b in products(size, kind):
        found += 2 * count * math.prod(a) * b[-1]
    return size["layers"] * found


def stack(size, kind, mode):
    """Function without arguments that runs the layers and waits."""
    model = LatentTransformer(size["layers"], size["heads"])
    x = keras.random.normal((size["batch"], size["latents"], size["channels"]), seed=0)
    model.build(x.shape)
    if kind == "forward":
        function = compiled(model, mode)
    else:
        variables = model.trainable_variables
        function = compiled(lambda x: gradients(lambda x: keras.ops.sum(model(x) ** 2), [x], variables), mode)
    return lambda: wait(function(x))


def alone(a, b, mode):
    """Function without arguments that multiplies `CALLS` pairs of tensors of these shapes and waits."""
    pairs = [(keras.random.uniform(a, seed=i), keras.random.uniform(b, seed=i)) for i in range(CALLS)]
    function = compiled(lambda pairs: [keras.ops.matmul(*pair) for pair in pairs], mode)
    return lambda: wait(function(pairs))


def measure(size, kind, mode, repeats):
    """(seconds of the layers, `{(shape, shape): (how many of a layer, seconds of one)}` of their products)."""
    counts = collections.Counter()
    for count, a, b in products(size, kind):
        counts[a, b] += count
    seconds = in_turns({"layers": stack(size, kind, mode)} | {pair: alone(*pair, mode) for pair in counts}, repeats)
    return seconds["layers"], {pair: (count, seconds[pair] / CALLS) for pair, count in counts.items()}


def profile(run):
    """Milliseconds of one call by kind of operation, summed over threads, the largest first."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    run()
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(PROFILED_CALLS):
                run()
        space = xplane_pb2.XSpace.FromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    found = collections.Counter()
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name = plane.event_metadata[event.metadata_id].name
            if not re.search(ENVELOPES, name):
                operation = name.rpartition(":")[2]  # TensorFlow writes path:operation
                kind = next(kind for kind, pattern in KINDS.items() if re.search(pattern, operation, re.IGNORECASE))
                found[kind] += event.duration_ps / 1e9 / PROFILED_CALLS
    return dict(found.most_common())


def report_profile(size, parts, found):
    """Prints the rate of each product, and the kinds of operations."""
    for (a, b), (count, seconds) in parts.items():
        rate = 2 * math.prod(a) * b[-1] / seconds / 1e9
        milliseconds = size["layers"] * count * seconds * 1e3
        print(f"    {f'{count} x {a} by {b}':44} {milliseconds:9.1f} ms {rate:6.0f} GFLOP/s")
    for kind, milliseconds in found.items():
        print(f"    {kind:44} {milliseconds:9.1f} ms", flush=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["imagenet", "small", "few"])
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=list(PASSES))
    parser.add_argument("--modes", nargs="+", default=list(MODES[backend()]), choices=MODES[backend()])
    parser.add_argument("--heads", nargs="+", type=int, help="in place of the eight")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args(arguments)
    memory_module().keep_freed_memory()
    print(f"{'':20} {'heads':>5} {'mode':>5} {'layers ms':>10} {'products ms':>12} {'ratio':>6} {'GFLOP/s':>8}")
    for name in arguments.sizes:
        for kind in arguments.passes:
            for heads in arguments.heads or [SIZES[name]["heads"]]:
                for mode in arguments.modes:
                    size = {**SIZES[name], "heads": heads}
                    layers, parts = measure(size, kind, mode, arguments.repeats)
                    products_alone = size["layers"] * sum(count * seconds for count, seconds in parts.values())
                    rate = flops(size, kind) / layers / 1e9
                    print(
                        f"{name:10} {kind:9} {heads:5} {mode:>5} {layers * 1e3:10.1f} {products_alone * 1e3:12.1f} "
                        f"{layers / products_alone:6.2f} {rate:8.0f}",
                        flush=True,
                    )
                    if arguments.profile:
                        report_profile(size, parts, profile(stack(size, kind, mode)))


if __name__ == "__main__":
    main()
