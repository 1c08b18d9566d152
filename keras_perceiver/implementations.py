"""The exact forms of cross-attention by name, what each of them costs, and the choice between them.

All of them compute the same function of the same weights:

- `dense`: the textbook form, `attention.dense_cross_attention`;
- `absorbed`: no keys and no values, `absorbed.absorbed_cross_attention`;
- `factored`: no byte array either, `absorbed.factored_cross_attention`.
"""

import math
from typing import NamedTuple

import keras

from keras_perceiver import absorbed, attention, byte_arrays
from keras_perceiver._blocks import row_bytes

IMPLEMENTATIONS = ("dense", "absorbed", "factored")
MEMORY_BUDGET = 8 * 2**20  # bytes of one block's temporaries: what stays in the cache is also faster
GPU_MEMORY_BUDGET = 2**30  # there small blocks are slower than the textbook form (tests/benchmarks/NOTES.md, 26)

# The time of a form in units of one multiply-add of a large matrix product: weights of what `features` returns, fitted
# to times on two cores (tests/benchmarks/choice.py --calibrate), mean of forward and gradients, with XLA and without.
_WEIGHTS = {
    "dense": (1, 110, 45, 6e7),
    "absorbed": (1, 75, 170, 6e7),
    "factored": (1.75, 175, 0, 7e7),
}
_GAIN = 0.7  # the fit is off by a fifth for most shapes, and XLA helps the factored form more than the textbook form


class Cost(NamedTuple):
    """What a cross-attend costs, forward and for one example."""

    implementation: str
    flops: int  # of the matrix products between the query and the attended values; a multiply and an add are two
    temporary_bytes: int  # of the arrays that live at the same time


class Problem(NamedTuple):
    """The shapes on which the cost depends; M of unknown axes counts as `unknown_length`."""

    segments: dict  # modality -> structure of shapes
    num_latents: int
    num_heads: int
    width: int  # h·k
    itemsize: int = 4
    memory_budget: int = MEMORY_BUDGET
    unknown_length: int = 1024

    @property
    def batch(self):
        """Examples that share the overhead of a call: 1, the most cautious, where the batch is open."""
        return next(iter(self.segments.values()))["content"][0] or 1

    @property
    def channels(self):
        return byte_arrays.segment_channels(next(iter(self.segments.values())))

    def length(self, shape):
        return math.prod(size or self.unknown_length for size in shape["content"][1:-1])

    @property
    def total_length(self):
        return sum(self.length(shape) for shape in self.segments.values())


def default_memory_budget():
    """Bytes of one block's temporaries, for the devices that Keras' backend computes on."""
    if keras.backend.backend() not in ("tensorflow", "jax"):  # Keras lists the devices of no other
        return MEMORY_BUDGET
    return GPU_MEMORY_BUDGET if keras.distribution.list_devices()[0].startswith("gpu") else MEMORY_BUDGET


def cross_attention(implementation, query, byte_array, projection, *, num_heads, epsilon, memory_budget):
    """The form of this name; arguments and result as in `attention.dense_cross_attention`."""
    if implementation == "dense":
        return attention.dense_cross_attention(query, byte_array, projection, num_heads=num_heads, epsilon=epsilon)
    form = {"absorbed": absorbed.absorbed_cross_attention, "factored": absorbed.factored_cross_attention}
    return form[implementation](
        query, byte_array, projection, num_heads=num_heads, epsilon=epsilon, memory_budget=memory_budget
    )


def cost(implementation, problem):
    """The `Cost` of one cross-attend."""
    return Cost(implementation, 2 * _multiply_adds(implementation, problem), _temporary_bytes(implementation, problem))


def choose_implementation(problem):
    """The form that is expected to be the fastest, with XLA and without, forward and backward.

    The estimated time of a form is a weighted sum of its `features`. The textbook form is left for another one where
    that is expected to take at most 0.7 times as long.
    """
    expected = {
        name: sum(weight * feature for weight, feature in zip(_WEIGHTS[name], features(name, problem), strict=True))
        for name in IMPLEMENTATIONS
    }
    expected["dense"] *= _GAIN
    return min(expected, key=expected.get)


def features(implementation, problem):
    """What the time of a form is made of, for a batch.

    Multiply-adds of the matrix products (per byte 2C·hk + 2N·hk for `dense`, 2hN·C for `absorbed`, about 2hN(c + 1)
    for `factored`); the h·N·M scores; the numbers that are written for the bytes (keys, values and the byte array where
    they are built); and 1 for the call itself, by which tiny problems stay with the textbook form.
    """
    length, batch = problem.total_length, problem.batch
    written = {"dense": 2 * problem.channels + 2 * problem.width, "absorbed": problem.channels, "factored": 0}
    return (
        batch * _multiply_adds(implementation, problem),
        batch * problem.num_heads * problem.num_latents * length,
        batch * length * written[implementation],
        1,
    )


def largest_row(problem):
    """Bytes that the smallest possible block of the factored form needs, as far as the lengths of axes are known."""
    inner = 1
    for shape in problem.segments.values():
        sizes = [size or 1 for size in shape["content"][1:-1]]
        split, _ = _arrange(shape)
        inner = max(inner, math.prod(sizes[split:]))
    return row_bytes(problem.num_heads * problem.num_latents, inner, problem.itemsize)


def _arrange(shape):
    return absorbed.arrange(tuple(shape["content"])[1:-1], [tuple(table)[:-1] for table in shape["tables"]])


def _multiply_adds(implementation, problem):
    length, channels, width = problem.total_length, problem.channels, problem.width
    if implementation == "dense":
        return 2 * length * channels * width + 2 * problem.num_latents * width * length
    projections = 2 * problem.num_latents * channels * width
    queries = problem.num_heads * problem.num_latents
    if implementation == "absorbed":
        return projections + 2 * queries * channels * length
    return projections + 2 * queries * sum(_row_channels(s, problem.length(s)) for s in problem.segments.values())


def _row_channels(shape, length):
    """Channels that meet a query in the factored form: over all bytes, and over all elements of the tables' axes."""
    content = shape["content"][-1] + bool(shape["tables"]) + ("padding_mask" in shape)
    total = length * content
    for group in _arrange(shape)[1]:
        elements = length if group.kind == "shared" else math.prod(group.shape)
        total += elements * sum(shape["tables"][i][-1] for i in group.indices)
    return total


def _temporary_bytes(implementation, problem):
    length, scores = problem.total_length, problem.num_heads * problem.num_latents * problem.total_length
    if implementation == "dense":
        floats = length * (2 * problem.channels + 2 * problem.width) + 2 * scores
        return floats * problem.itemsize
    block = min(max(problem.memory_budget, largest_row(problem)), row_bytes(1, scores, problem.itemsize))
    if implementation == "absorbed":
        return 2 * length * problem.channels * problem.itemsize + block
    floats = sum(problem.length(shape) * (shape["content"][-1] + 2) for shape in problem.segments.values())
    return floats * problem.itemsize + block
