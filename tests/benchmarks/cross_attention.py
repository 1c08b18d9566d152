"""Times each exact form of one cross-attend, side by side in one run: `python tests/benchmarks/cross_attention.py`.

Every form is timed with XLA and without, in turns, so that other load on the machine falls on all of them alike; the
table shows the median of each and, for each form at the faster of its two, the ratio to the textbook form.
"""

import argparse
import statistics
import time

import tensorflow as tf

from keras_perceiver import ByteNormalization, CrossAttention, FourierPositions, LearnedPositions
from keras_perceiver.implementations import IMPLEMENTATIONS


def build(implementation, arguments):
    """`{(implementation, pass, xla): function}` of one cross-attend."""
    layer = CrossAttention(
        arguments.heads, arguments.head_dim, implementation=implementation, memory_budget=arguments.memory_budget
    )
    positions = FourierPositions(arguments.bands) if arguments.positions == "fourier" else LearnedPositions()
    normalization = ByteNormalization()
    content = tf.random.stateless_normal((arguments.batch, arguments.size, arguments.size, 3), (0, 1))
    latents = tf.random.stateless_normal((arguments.batch, arguments.latents, arguments.latent_dim), (0, 2))
    layer(latents, normalization(positions(content)))

    def forward(latents, content):
        return layer(latents, normalization(positions(content)))

    def with_gradients(latents, content):
        with tf.GradientTape() as tape:
            tape.watch(latents)
            loss = tf.reduce_sum(forward(latents, content) ** 2)
        return tape.gradient(loss, [latents, *layer.trainable_variables, *positions.trainable_variables])

    return {
        (implementation, name, xla): (tf.function(function, jit_compile=xla), (latents, content))
        for name, function in (("forward", forward), ("gradients", with_gradients))
        for xla in (False, True)
    }


def measure(runs, repeats):
    """Median seconds of each run, taken in turns."""
    seconds = {key: [] for key in runs}
    for function, inputs in runs.values():
        function(*inputs)
    for _ in range(repeats):
        for key, (function, inputs) in runs.items():
            start = time.perf_counter()
            tf.nest.map_structure(lambda x: x.numpy(), function(*inputs))
            seconds[key].append(time.perf_counter() - start)
    return {key: statistics.median(values) for key, values in seconds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("size", 224), ("latents", 512), ("latent-dim", 1024), ("bands", 64), ("batch", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--heads", type=int, default=1)
    parser.add_argument("--head-dim", type=int, default=None)
    parser.add_argument("--positions", choices=("fourier", "learned"), default="fourier")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--memory-budget", type=int, default=None)
    parser.add_argument("--implementations", nargs="+", default=list(IMPLEMENTATIONS))
    arguments = parser.parse_args()
    runs = {}
    for implementation in arguments.implementations:
        runs |= build(implementation, arguments)
    medians = measure(runs, arguments.repeats)
    print(f"one cross-attend, {arguments.size}x{arguments.size}, N={arguments.latents}, B={arguments.batch}")
    print(f"{'':10} {'pass':10} {'ops ms':>9} {'XLA ms':>9} {'ratio':>7}")
    for name in ("forward", "gradients"):
        reference = None
        for implementation in arguments.implementations:
            times = [medians[implementation, name, xla] * 1e3 for xla in (False, True)]
            reference = reference or min(times)
            ratio = reference / min(times)
            print(f"{implementation:10} {name:10} {times[0]:9.1f} {times[1]:9.1f} {ratio:7.2f}", flush=True)


if __name__ == "__main__":
    main()
