"""The questions of a study and the arms that answer them, as readable data.

An arm is a training run that differs from the others in what is asked about and in nothing else. Its settings are
dictionaries of arguments, the names of which are those of the functions that take them. What is not said is that of
the data's own preset.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from keras_perceiver.models.presets import modality_of

PERMUTE_SEED = 0  # of the one permutation that all arms share
MOST_PATCHES = 64  # of a ViT
MOST_BYTES = 256  # of a Transformer, whose cost grows with their square; the paper's has 4,096
NUM_SIZES = 5  # of patches, bands, ..: so many arms at most


@dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    Attributes:
        model: arguments of the function that builds the network, in place of the preset's.
        network: key of `NETWORKS`.
        source: arguments of `load_source`, in place of those of the study.
    """

    model: dict = field(default_factory=dict)
    network: str = "perceiver"
    source: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """What is asked, and who answers.

    Attributes:
        asks: the question in one sentence.
        arms: (all arguments of the data's own Perceiver, lengths of the index axes of its byte array) ->
            `{name: Arm}`.
    """

    asks: str
    arms: Callable


def permutation_arms(base, grid):
    """The paper's second table: each network on the data as they are, and with all bytes in another order.

    Each byte keeps its position. No convolution stands in front of the Perceiver, as it would see the neighbours.
    """
    single = {"patch_size": 1} if base["stem"] else {}
    fourier = {"num_bands": base["num_bands"]}
    networks = {
        "Perceiver": Arm(single),
        "Perceiver with learned positions": Arm({**single, "positions": "learned"}),
        **{name: Arm({**arm.model, **fourier}, arm.network) for name, arm in specialised_networks(base).items()},
    }
    arms = {}
    for name, arm in networks.items():
        arms[name] = arm
        arms[f"{name}, permuted"] = Arm({**arm.model, "permute_seed": PERMUTE_SEED}, arm.network)
    return arms


def position_arms(base, grid):
    """No positions, learned ones, and Fourier features with more or fewer bands, up to other frequencies."""
    none = Arm({"positions": "none"})
    if base["positions"] == "coordinates":
        resolution = base["max_resolution"]
        arms = {f"{bands} bands": Arm({"num_bands": bands}) for bands in (16, 4, 64)}
        for factor, words in ((1 / 4, "a quarter of the"), (4, "four times the")):
            arms[f"16 bands, {words} highest frequency"] = Arm({"num_bands": 16, "max_resolution": factor * resolution})
        return {**arms, "none but the coordinates": none}
    most = max(2, int(math.log2(max(grid))) - 1)  # as many bands as half the axis has elements
    bands = [2**power for power in range(1, most + 1)][-NUM_SIZES:]
    arms = {f"{k} bands": _fourier(k, grid, 1) for k in reversed(bands)}
    for factor, words in ((1 / 2, "half"), (2, "twice")):
        arms[f"{bands[-1]} bands, up to {words} the Nyquist frequency"] = _fourier(bands[-1], grid, factor)
    return {**arms, "learned": Arm({"positions": "learned"}), "none": none}


def _fourier(num_bands, grid, factor):
    """Fourier positions up to `factor` times the Nyquist frequency of each axis."""
    resolution = [factor * length for length in grid]
    return Arm({"positions": "fourier", "num_bands": num_bands, "max_resolution": resolution})


def depth_arms(base, grid):
    """The paper's ablations: cross-attends against latent layers, where they stand, and who shares weights."""
    layers = base["num_self_attention_layers"]
    four = {
        "num_blocks": 4,
        "num_cross_attends": 4,
        "cross_attend_placement": "interleaved",
        "share_weights": True,
    }
    return {
        "4 cross-attends": Arm(four),
        "2 cross-attends": Arm({**four, "num_cross_attends": 2}),
        "1 cross-attend": Arm({**four, "num_cross_attends": 1}),
        "4 cross-attends, all at the start": Arm({**four, "cross_attend_placement": "start"}),
        "4 cross-attends, nothing shared": Arm({**four, "share_weights": False}),
        "4 cross-attends, twice the latent layers": Arm({**four, "num_self_attention_layers": 2 * layers}),
        "4 cross-attends, no latent layers": Arm({**four, "num_self_attention_layers": 0}),
    }


def latent_arms(base, grid):
    """More and fewer latents, wider and narrower ones, and other scales of their initial values."""
    number, width = base["num_latents"], base["latent_dim"]
    heads = base["num_self_attention_heads"]
    numbers = sorted({max(1, number // 4), max(1, number // 2), 2 * number, 4 * number})
    widths = [w for w in (width // 2, 2 * width) if w and w % heads == 0]
    return {
        f"{number} latents of {width} channels": Arm(),
        **{f"{n} latents of {width} channels": Arm({"num_latents": n}) for n in numbers if n != number},
        **{f"{number} latents of {w} channels": Arm({"latent_dim": w}) for w in widths},
        **{f"initial scale {scale}": Arm({"latent_initial_std": scale}) for scale in (0.002, 0.1, 1.0)},
    }


def input_arms(base, grid):
    """The same data cut more and more finely: M from few large patches to single elements; fewer to more points."""
    shape = example_shape(base)
    if modality_of(base["input_shape"]) == "points":
        numbers = sorted({max(1, shape[0] // 2**power) for power in range(NUM_SIZES - 1)}, reverse=True)
        return {f"{n} points": Arm(source={"num_points": n}) for n in numbers}
    axes = shape[:-1]
    sizes = [2**power for power in range(NUM_SIZES)]
    sizes = [p for p in sizes if all(axis % p == 0 for axis in axes) and math.prod(axes) // p ** len(axes) > 1]
    return {"single elements" if p == 1 else f"patches of {p}": Arm({"patch_size": p}) for p in sizes}


def baseline_arms(base, grid):
    """The Perceiver as it is trained by default, with single elements, and the specialised networks."""
    arms = {"Perceiver": Arm()}
    if base["stem"] or base["patch_size"]:
        arms["Perceiver on single elements"] = Arm({"patch_size": 1})
    return {**arms, **specialised_networks(base), "resnet50": Arm(network="resnet50")}


def specialised_networks(base):
    """Networks for pictures, in patches that they can afford; they say themselves where they cannot be built."""
    axes = example_shape(base)[:-1]
    return {
        "resnet18": Arm(network="resnet18"),
        "vit": Arm({"patch_size": affordable_patch(axes, 2, MOST_PATCHES)}, "vit"),
        "transformer": Arm({"patch_size": affordable_patch(axes, 1, MOST_BYTES)}, "transformer"),
    }


def affordable_patch(axes, least, most):
    """The smallest patch, from `least` on, that divides all axes and leaves at most `most` of them."""
    for size in range(least, min(axes) + 1):
        if all(axis % size == 0 for axis in axes) and math.prod(axis // size for axis in axes) <= most:
            return size
    return min(axes)


def example_shape(base):
    """(S_1, .., S_d, c) of one example of the only modality of a model."""
    shape = base["input_shape"]
    return next(iter(shape.values())) if isinstance(shape, dict) else shape


QUESTIONS = {
    "permutation": Question(
        "How much of its accuracy does a network owe to the order of its inputs?", permutation_arms
    ),
    "positions": Question(
        "What do positions do to accuracy: none, learned, more or fewer Fourier bands?", position_arms
    ),
    "depth": Question(
        "Cross-attends against latent layers, interleaved or at the start, shared or not: what helps?", depth_arms
    ),
    "latents": Question("How many latents, how wide, and how small at first?", latent_arms),
    "inputs": Question("What do more inputs cost, and what do they bring?", input_arms),
    "baselines": Question("How does the Perceiver compare with specialised networks?", baseline_arms),
}
