"""Times each exact form of one cross-attend, side by side in one run: `python tests/benchmarks/cross_attention.py`.

Every form is timed with XLA and without, in turns, so that other load on the machine falls on all of them alike; the
table shows the median of each and, for each form at the faster of its two, the ratio to the textbook form.
`KERAS_BACKEND=jax` (or `torch`) runs the same on that backend, on a GPU where it sees one.
"""

import argparse

import keras
from keras import ops
from measuring import MODES, backend, compiled, gradients, in_turns, wait

from keras_perceiver import ByteNormalization, CrossAttention, FourierPositions, LearnedPositions
from keras_perceiver.implementations import IMPLEMENTATIONS


def build(implementation, arguments):
    """`{(implementation, pass, mode): function}` of one cross-attend; each waits for its result."""
    layer = CrossAttention(
        arguments.heads, arguments.head_dim, implementation=implementation, memory_budget=arguments.memory_budget
    )
    positions = FourierPositions(arguments.bands) if arguments.positions == "fourier" else LearnedPositions()
    normalization = ByteNormalization()
    content = keras.random.normal((arguments.batch, arguments.size, arguments.size, 3), seed=1)
    latents = keras.random.normal((arguments.batch, arguments.latents, arguments.latent_dim), seed=2)
    layer(latents, normalization(positions(content)))

    def forward(latents, content):
        return layer(latents, normalization(positions(content)))

    def loss(latents, content):
        return ops.sum(forward(latents, content) ** 2)

    def with_gradients(latents, content):
        variables = [*layer.trainable_variables, *positions.trainable_variables]
        return gradients(loss, [latents, content], variables)

    def run(function, mode):
        function = compiled(function, mode)
        return lambda: wait(function(latents, content))

    return {
        (implementation, name, mode): run(function, mode)
        for name, function in (("forward", forward), ("gradients", with_gradients))
        for mode in MODES[backend()]
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("size", 224), ("latents", 512), ("latent-dim", 1024), ("bands", 64), ("batch", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--heads", type=int, default=1)
    parser.add_argument("--head-dim", type=int, default=None)
    parser.add_argument("--positions", choices=("fourier", "learned"), default="fourier")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--memory-budget", type=int, default=None)
    parser.add_argument("--implementations", nargs="+", default=list(IMPLEMENTATIONS))
    arguments = parser.parse_args(arguments)
    runs = {}
    for implementation in arguments.implementations:
        runs |= build(implementation, arguments)
    medians = in_turns(runs, arguments.repeats)
    modes = MODES[backend()]
    shape = f"{arguments.size}x{arguments.size}, N={arguments.latents}, B={arguments.batch}"
    print(f"one cross-attend, {shape}, {backend()}")
    print(f"{'':10} {'pass':10}", *(f"{mode + ' ms':>9}" for mode in modes), f"{'ratio':>7}")
    for name in ("forward", "gradients"):
        reference = None
        for implementation in arguments.implementations:
            times = [medians[implementation, name, mode] * 1e3 for mode in modes]
            reference = reference or min(times)
            cells = (*(f"{time:9.1f}" for time in times), f"{reference / min(times):7.2f}")
            print(f"{implementation:10} {name:10}", *cells, flush=True)


if __name__ == "__main__":
    main()
