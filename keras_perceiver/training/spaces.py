"""What may be tuned: a space of hyper-parameters as plain data, and the model and the recipe at one of its points."""

import dataclasses
import functools
import inspect
import itertools
import json
import math
from dataclasses import dataclass

from keras_perceiver._checks import InputError, nearest, require, require_at_least, require_one_of
from keras_perceiver.data import MODALITIES
from keras_perceiver.layers import FourierPositions, Patches
from keras_perceiver.models import build_encoder
from keras_perceiver.models.encoder import NUM_COORDINATES
from keras_perceiver.models.presets import remaining_front

# Two names are not arguments of ours: from them and the one beside them an argument follows, so that any choice of both
# is a legal model.
DERIVED = {
    "self_attention_head_dim": ("num_self_attention_heads", "latent_dim"),
    "blocks_per_cross_attend": ("num_cross_attends", "num_blocks"),
}
MODEL = (
    "num_latents",
    "num_self_attention_heads",
    "self_attention_head_dim",
    "num_cross_attends",
    "blocks_per_cross_attend",
    "num_self_attention_layers",
    "num_cross_attention_heads",
    "cross_attention_head_dim",
    "share_weights",
    "widening_factor",
    "num_bands",
    "max_resolution",
    "patch_size",
)
TRAINING = (
    "optimizer",
    "learning_rate",
    "weight_decay",
    "schedule",
    "warmup_fraction",
    "label_smoothing",
    "beta_2",
    "batch_size",
)
MOST_WHOLE = 10_000  # numbers in a range: all of them are looked at
TOLD = 3  # values of a range that are not legal, in a message
# The strength that is none, and the largest, where they are not 0 and any.
NO_AUGMENTATION = {"crop_min_area": 1.0}
STRONGEST = {"flip_rate": 1.0, "cut_mix": 1.0, "rand_augment_magnitude": 10.0, "shift_rate": 0.99}
STRONGEST |= {"color_jitter": 0.99, "scale_range": 0.99, "fade_share": 0.99}
STRONGEST |= {"point_dropout": 0.99}


@dataclass(frozen=True)
class Choices:
    """One hyper-parameter, as `space` says it and as KerasTuner holds it.

    Attributes:
        values: list of values, or `{"min", "max", "sampling", "step"}` of a range, of whole numbers if both ends are.
        default: a value of them.
    """

    name: str
    values: list | dict
    default: object

    @classmethod
    def of(cls, name, values, default):
        """With the library's default where it is among the values, or else with what is nearest to it."""
        default, drawn = _plain(default), cls(name, values, None).every()
        numbers = [value for value in drawn if _is_number(value)]
        if isinstance(values, list) and default in values:
            return cls(name, values, default)
        if not (_is_number(default) and numbers):
            return cls(name, values, drawn[0])
        if isinstance(values, dict) and not _is_whole(values):
            return cls(name, values, min(max(default, values["min"]), values["max"]))
        return cls(name, values, min(numbers, key=lambda value: abs(value - default)))

    def declare(self, hp):
        """Declares it, and returns its value at the point of `hp`."""
        if isinstance(self.values, dict):
            kind = hp.Int if _is_whole(self.values) else hp.Float
            ends = {"min_value": self.values["min"], "max_value": self.values["max"]}
            more = {key: self.values[key] for key in ("sampling", "step") if key in self.values}
            return kind(self.name, **ends, **more, default=self.default)
        kinds = {type(value) for value in self.values}
        if kinds == {bool} and len(set(self.values)) == 2:
            return hp.Boolean(self.name, default=self.default)
        if kinds == {str}:
            return hp.Choice(self.name, self.values, default=self.default)
        if kinds <= {int, float}:
            kind = int if kinds == {int} else float
            return hp.Choice(self.name, [kind(value) for value in self.values], default=kind(self.default))
        texts = [json.dumps(value) for value in self.values]  # KerasTuner holds no lists, and not two kinds of values
        return json.loads(hp.Choice(self.name, texts, default=json.dumps(self.default)))

    def least(self):
        """The value that makes the smallest model."""
        drawn = self.every()
        if any(value is True for value in drawn):  # of booleans, shared weights
            return True
        return min(drawn) if all(_is_number(value) for value in drawn) else self.default

    def every(self):
        """All values that can be drawn; of a range of numbers that are not whole, its ends: what lies between them is
        legal where both are."""
        if not isinstance(self.values, dict):
            return self.values
        low, high, step = self.values["min"], self.values["max"], self.values.get("step")
        if not _is_whole(self.values):
            return [low, high]
        if step is None or not _is_log(self.values):
            return range(low, high + 1, step or 1)
        powers = itertools.takewhile(lambda value: value <= high, (low * step**number for number in itertools.count()))
        return [low + high - value for value in powers] if self.values["sampling"] == "reverse_log" else list(powers)


def build_space(space, model, recipe, modality):
    """`{name: Choices}` of a space as it is written, checked but for what the data cannot take, see `legal_space`.

    Args:
        space: `{name: values}`, see `Choices`.
        model: arguments of `build_classifier`, the defaults.
        recipe: `Recipe`, the default.
        modality: key of `MODALITIES`.

    Raises:
        InputError: where a name is unknown or without effect on these data, or values are not in the form of any.
    """
    known = [*MODEL, *TRAINING, *augmentation_names(modality)]
    unknown = sorted(set(space) - set(known))
    require(
        not unknown,
        f"`space` must name hyper-parameters that change something of data of the modality {modality!r}",
        unknown=unknown,
        repair=(nearest(unknown[0], known) if unknown else "") or f"They are {', '.join(known)}.",
    )
    require(bool(space), "`space` must hold at least one hyper-parameter", space=space)
    defaults = point_of(model, recipe)
    for name, values in space.items():
        _check_values(name, values)
        require(name in defaults, f"`{name}` must change something beside the default model", model=model)
    return {name: Choices.of(name, values, defaults[name]) for name, values in space.items()}


def legal_space(choices, model, recipe, num_examples):
    """A space without what is not legal for these data.

    Names can be chosen each for itself, so a value is legal where it is so beside the defaults.

    Returns:
        `({name: Choices}, {name: [(value, reason), ..]})`, what is left, and what is left out.

    Raises:
        InputError: where no value of a hyper-parameter is legal.
    """
    legal, left_out = {}, {}
    for name, one in choices.items():
        reasons = ((value, _problem(name, value, model, recipe, num_examples)) for value in one.every())
        wrong = ((value, reason) for value, reason in reasons if reason)
        is_range = isinstance(one.values, dict)
        wrong = list(itertools.islice(wrong, TOLD if is_range else None))
        told = " ".join(f"{value}: {reason}" for value, reason in wrong)
        require(
            not (is_range and wrong),
            f"All values of a range must be legal, and those of `{name}` are not",
            repair=f"{told} Give a list of values.",
            **{name: one.values},
        )
        kept = [value for value in one.every() if value not in [value for value, _ in wrong]]
        rule = f"`space` must have a legal point, and has none for `{name}`"
        require(bool(kept), rule, repair=told, **{name: one.values})
        legal[name] = Choices.of(name, kept, one.default) if wrong else one
        if wrong:
            left_out[name] = wrong
    return legal, left_out


def default_space(model, recipe, modality, num_examples):
    """A space around the defaults: half, once and twice of what there is, and the other kinds of what there are."""
    defaults = point_of(model, recipe)
    space = {name: _around(defaults[name]) for name in MODEL if _is_number(defaults.get(name)) and defaults[name] > 0}
    space.pop("widening_factor", None)
    space["share_weights"] = [True, False]
    if "patch_size" in space:
        space["patch_size"] = [size for size in space["patch_size"] if _fits(size, model["input_shape"])]
    elif "patch_size" in defaults and defaults["patch_size"] is None:
        space["patch_size"] = [None, *(size for size in (2, 4, 8) if _fits(size, model["input_shape"]))]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    space["optimizer"] = ["adamw", "lamb"]
    space["learning_rate"] = {"min": rate / 4, "max": rate * 4, "sampling": "log"}
    if decay:
        space["weight_decay"] = {"min": decay / 4, "max": decay * 4, "sampling": "log"}
    space["schedule"] = list(dict.fromkeys([recipe.schedule, "cosine", "flat_cosine", "constant"]))
    space["batch_size"] = [size for size in _around(recipe.batch_size) if size <= num_examples]
    for name in augmentation_names(modality):
        value, none = getattr(recipe, name), NO_AUGMENTATION.get(name, 0)
        if _is_number(value) and value != none and name != "rand_augment_magnitude":
            space[name] = _strengths(value, none, STRONGEST.get(name))
    return space


def point_of(model, recipe):
    """The point of a model and a recipe: the value of every name that can be chosen beside the others."""
    known = _arguments(model)
    point = {name: known[name] for name in MODEL if name in known}
    if known["positions"] not in ("fourier", "coordinates"):
        point = _without(point, "num_bands", "max_resolution")
    if known["positions"] == "coordinates":  # points have no neighbours in their array
        point = _without(point, "patch_size")
    if known["cross_attention_head_dim"] is None:  # all channels, which another number of heads need not divide
        point = _without(point, "num_cross_attention_heads")
    if known["cross_attend_placement"] != "interleaved":  # blocks do not follow from cross-attends
        point = _without(point, "num_cross_attends")
    for name, (beside, product) in DERIVED.items():
        if beside in point:
            point[name] = known[product] // known[beside]
    return {**vars(recipe), **point}


def model_at(point, model):
    """The arguments of the model that a point changes; a patch takes the place of a stem."""
    known = _arguments(model)
    chosen = {name: point[name] for name in MODEL if name in point and name not in DERIVED}
    for name, (beside, product) in DERIVED.items():
        if name in point or beside in point:
            one = point.get(name, known[product] // known[beside])
            chosen[product] = one * point.get(beside, known[beside])
    if chosen.get("patch_size", 0) is None:
        chosen.pop("patch_size")  # what stands in front stays as it is
    elif "patch_size" in chosen:
        chosen["stem"] = remaining_front(known["stem"], chosen["patch_size"], model["input_shape"])
    return chosen


def recipe_at(point):
    """The attributes of the recipe that a point changes."""
    return {name: value for name, value in point.items() if name not in MODEL}


def augmentation_names(modality):
    """The attributes of `Recipe` that change an example of this modality on its way into the model."""
    kind = MODALITIES[modality]
    functions = [function for function in (kind.augment, kind.mix, kind.hide) if function is not None]
    parameters = [p for function in functions for p in inspect.signature(function).parameters.values()]
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def _arguments(model):
    """All arguments of the encoder: those of the model, and the defaults of the others."""
    return {p.name: p.default for p in inspect.signature(build_encoder).parameters.values()} | model


def _without(point, *names):
    return {name: value for name, value in point.items() if name not in names}


def _problem(name, value, model, recipe, num_examples):
    """Why a value is not legal beside the defaults; an empty string where it is."""
    try:
        if name in MODEL:
            _check_argument(name, value, model)
            return ""
        dataclasses.replace(recipe, **{name: value})
        require(name != "batch_size" or value <= num_examples, "`batch_size` must be at most the number of examples")
        return ""
    except (InputError, TypeError) as error:  # of a kind that cannot be compared with what it must be
        return str(error)


def _check_argument(name, value, model):
    """Raises what `build_classifier` would for such a value, without the seconds that a model takes to build."""
    shapes = model["input_shape"] if isinstance(model["input_shape"], dict) else {"inputs": model["input_shape"]}
    if name in ("patch_size", "max_resolution"):
        layer = Patches if name == "patch_size" else functools.partial(FourierPositions, 1)
        has_axes = _arguments(model)["positions"] != "coordinates"
        by_modality = value if isinstance(value, dict) else dict.fromkeys(shapes, value)
        for modality, one in by_modality.items():
            require_one_of(shapes, modality=modality)
            if name == "max_resolution" or one is not None:
                lengths = tuple(shapes[modality])[:-1] if has_axes else (None,) * NUM_COORDINATES
                made = layer(one)
                (made.sizes if name == "patch_size" else made.resolutions)(lengths)
    elif name == "share_weights":
        require_one_of((True, False), share_weights=value)
    else:
        require_at_least(0 if name == "num_self_attention_layers" else 1, **{name: value})


def _check_values(name, values):
    is_range = isinstance(values, dict) and values.keys() >= {"min", "max"}
    is_range = is_range and values.keys() <= {"min", "max", "sampling", "step"}
    is_range = is_range and all(_is_number(values[end]) and math.isfinite(values[end]) for end in ("min", "max"))
    is_range = is_range and values["min"] < values["max"]
    is_range = is_range and values.get("sampling", "linear") in ("linear", "log", "reverse_log")
    is_range = is_range and (values["min"] > 0 or not _is_log(values))
    require(
        is_range or (isinstance(values, list) and bool(values)),
        f"`{name}` must be a list of values, or a range such as "
        '{"min": 0.001, "max": 0.01, "sampling": "log"}, with "linear", "log" or "reverse_log"',
        **{name: values},
    )
    if is_range:
        _check_step(name, values)


def _check_step(name, values):
    """Requires KerasTuner to take the step of a range, and a range of whole numbers to be short enough to look at."""
    step, least = values.get("step"), 1 if _is_log(values) else 0
    if step is not None:
        is_number = _is_number(step) and least < step < math.inf
        is_legal = is_number and (isinstance(step, int) or not _is_whole(values))
        rule = f"`step` of `{name}` must be a number above {least}, and whole between whole numbers"
        require(is_legal, rule, **{name: values})
    if _is_whole(values) and not (step and _is_log(values)):
        count = (values["max"] - values["min"]) // (step or 1) + 1
        rule = f"`{name}` must be a range of at most {MOST_WHOLE:,} whole numbers"
        require(count <= MOST_WHOLE, rule, repair="Give it a `step`, or a list of values.", **{name: values})


def _is_log(values):
    return values.get("sampling", "linear") != "linear"


def _is_whole(values):
    """Whether a range is one of whole numbers."""
    return all(isinstance(values[end], int) for end in ("min", "max"))


def _around(value):
    """Half, once and twice a number."""
    half = value // 2 if isinstance(value, int) else value / 2
    return sorted({max(1, half), value, 2 * value})


def _strengths(value, none, strongest):
    """From no augmentation to twice as strong."""
    if isinstance(value, int):
        return {"min": none, "max": 2 * value}
    other = none + 2 * (value - none)
    other = max(0.05, other) if none else min(other, strongest or other)
    return {"min": round(float(min(none, other)), 3), "max": round(float(max(none, other)), 3)}


def _fits(size, input_shape):
    """Whether patches of that size fill every axis, with at least four of them."""
    shapes = input_shape.values() if isinstance(input_shape, dict) else [input_shape]
    return all(length % size == 0 and length >= 4 * size for shape in shapes for length in tuple(shape)[:-1])


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _plain(value):
    """As JSON holds it: lists for tuples."""
    return json.loads(json.dumps(value))
