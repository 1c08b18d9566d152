"""The questions of a study and the arms that answer them, as readable data.

An arm is a training run that differs from the others in what is asked about and in nothing else. Its settings are
dictionaries of arguments, the names of which are those of the functions that take them. What is not said is that of
the data's own preset.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from keras_perceiver._checks import require
from keras_perceiver.models.presets import modality_of

PERMUTE_SEED = 0  # of the one permutation that all arms share
MOST_PATCHES = 64  # of a ViT
MOST_BYTES = 256  # of a Transformer, whose cost grows with their square, points included; the paper's has 4,096
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
        arms: (all arguments of the data's own Perceiver, `{modality: lengths of the index axes of its byte array}`) ->
            `{name: Arm}`; an `InputError` where the question makes no sense for the data. A lone modality that has no
            name in the model is called "".
    """

    asks: str
    arms: Callable


def permutation_arms(base, grids):
    """The paper's second table: each network on the data as they are, and with all bytes in another order.

    Each byte keeps its position. No convolution stands in front of the Perceiver, as it would see the neighbours.
    """
    rule = "'permutation' must be asked of a model that takes its inputs in their order"
    repair = "'imagenet' is the model of 'imagenet_permuted'."
    require(base.get("permute_seed") is None, rule, permute_seed=base.get("permute_seed"), repair=repair)
    single = {"stem": {}} if base["stem"] else {}  # of no modality; patches of others stay
    fourier = {"num_bands": base["num_bands"]}
    networks = {"Perceiver": Arm(single)}
    if base["positions"] not in ("coordinates", "learned"):  # those of a cloud are its data
        networks["Perceiver with learned positions"] = Arm({**single, "positions": "learned"})
    for name, arm in specialised_networks(base).items():
        networks[name] = Arm({**arm.model, **fourier}, arm.network, arm.source)
    arms = {}
    for name, arm in networks.items():
        arms[name] = arm
        arms[f"{name}, permuted"] = Arm({**arm.model, "permute_seed": PERMUTE_SEED}, arm.network, arm.source)
    return arms


def position_arms(base, grids):
    """No positions, learned ones, and Fourier features with more or fewer bands, up to other frequencies."""
    none = Arm({"positions": "none"})
    if base["positions"] == "coordinates":
        bands, resolution = base["num_bands"], base["max_resolution"]
        arms = {f"{k} bands": Arm({"num_bands": k}) for k in (bands, max(1, bands // 2), 4 * bands)}
        for factor, words in ((1 / 4, "a quarter of the"), (4, "four times the")):
            other = {"num_bands": bands, "max_resolution": factor * resolution}
            arms[f"{bands} bands, {words} highest frequency"] = Arm(other)
        return {**arms, "none but the coordinates": none}
    longest = max(max(lengths) for lengths in grids.values())
    most = max(2, int(math.log2(longest)) - 1)  # as many bands as half the axis has elements
    bands = [2**power for power in range(1, most + 1)][-NUM_SIZES:]
    arms = {f"{k} bands": _fourier(k, grids, 1) for k in reversed(bands)}
    for factor, words in ((1 / 2, "half"), (2, "twice")):
        arms[f"{bands[-1]} bands, up to {words} the Nyquist frequency"] = _fourier(bands[-1], grids, factor)
    return {**arms, "learned": Arm({"positions": "learned"}), "none": none}


def _fourier(num_bands, grids, factor):
    """Fourier positions up to `factor` times the Nyquist frequency of each axis."""
    resolutions = {modality: [factor * length for length in lengths] for modality, lengths in grids.items()}
    resolution = resolutions if len(grids) > 1 else next(iter(resolutions.values()))
    return Arm({"positions": "fourier", "num_bands": num_bands, "max_resolution": resolution})


def depth_arms(base, grids):
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


def latent_arms(base, grids):
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


def input_arms(base, grids):
    """The same data cut more and more finely: M from few large patches to single elements; fewer to more points."""
    shape = example_shape(base, "inputs")
    if modality_of(base["input_shape"]) == "points":
        numbers = sorted({max(2, shape[0] // 2**power) for power in range(NUM_SIZES - 1)}, reverse=True)
        return {f"{n} points": Arm(source={"num_points": n}) for n in numbers}
    named = {}
    for patch in (divisors_from(2**power, shape[:-1]) for power in range(NUM_SIZES)):
        size = _patch_size(patch)
        if math.prod(shape[:-1]) > math.prod(patch) and size not in named.values():
            words = "x".join(map(str, size)) if isinstance(size, list) else str(size)
            named["single elements" if size == 1 else f"patches of {words}"] = size
    return {name: Arm({"patch_size": size}) for name, size in named.items()}


def baseline_arms(base, grids):
    """The Perceiver as it is trained by default, with single elements, and the specialised networks."""
    example_shape(base, "baselines")
    arms = {"Perceiver": Arm()}
    if base["stem"] or base["patch_size"]:
        arms["Perceiver on single elements"] = Arm({"patch_size": 1})
    arms |= specialised_networks(base)
    return arms | ({"resnet50": Arm(network="resnet50")} if "resnet18" in arms else {})


def specialised_networks(base):
    """Networks for the modality, in patches that they can afford; none for several modalities at once."""
    modality = modality_of(base["input_shape"])
    if modality == "points":
        num_points = min(MOST_BYTES, example_shape(base)[0])
        return {
            "pointnet": Arm(network="pointnet"),
            f"transformer of {num_points} points": Arm(network="transformer", source={"num_points": num_points}),
        }
    if isinstance(base["input_shape"], dict) and len(base["input_shape"]) > 1:
        return {}
    axes = example_shape(base)[:-1]
    return {
        "resnet18": Arm(network="resnet18"),
        "vit": Arm({"patch_size": affordable_patch(axes, 2, MOST_PATCHES)}, "vit"),
        "transformer": Arm({"patch_size": affordable_patch(axes, 1, MOST_BYTES)}, "transformer"),
    }


def affordable_patch(axes, least, most):
    """The smallest patch, from `least` on, that divides all axes and leaves at most `most` of them: a number, or one
    number per axis."""
    for size in range(least, max(axes) + 1):
        patch = divisors_from(size, axes)
        if math.prod(axes) // math.prod(patch) <= most:
            return _patch_size(patch)
    return _patch_size(axes)


def divisors_from(size, axes):
    """For each axis the least of its divisors that is not below `size`: all of it where there is no other."""
    return tuple(next(d for d in range(min(size, axis), axis + 1) if axis % d == 0) for axis in axes)


def _patch_size(patch):
    """One number where it is the same along all axes; what `build_encoder` calls `patch_size`."""
    return patch[0] if len(set(patch)) == 1 else list(patch)


def example_shape(base, question=None):
    """(S_1, .., S_d, c) of one example of the only modality of a model; `question` is asked of no more than one."""
    shape = base["input_shape"]
    shapes = list(shape.values()) if isinstance(shape, dict) else [shape]
    require(
        len(shapes) == 1,
        f"{question!r} can be asked of data of one modality",
        modality=modality_of(shape),
        repair="'depth', 'latents', 'positions' and 'permutation' can be asked of several.",
    )
    return shapes[0]


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
