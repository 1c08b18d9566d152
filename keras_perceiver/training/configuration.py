"""What a run is known by: data, model, training and seed, made of what is given and of what presets and recipes say."""

import dataclasses
import inspect
import json

from keras_perceiver._checks import given, nearest, require, require_one_of
from keras_perceiver._files import read_json_object
from keras_perceiver.data import MODALITIES, Source, find_modality, load_source
from keras_perceiver.models import NETWORKS, PRESETS, build_encoder
from keras_perceiver.models.paper_presets import PAPER_MODELS, PAPER_PRESETS
from keras_perceiver.models.presets import modality_of, paper_options, preset_arguments
from keras_perceiver.training.recipes import RECIPES, Recipe
from keras_perceiver.training.runs import OTHER_FOLDER
from keras_perceiver.training.spaces import augmentation_names


def resolved_preset(preset, base_recipe, network, data, options):
    """The preset that is given; where none is, the paper's model that a recipe of the paper trains on such data."""
    if preset is not None or network != "perceiver" or base_recipe not in PAPER_MODELS:
        return preset
    options = given(options)
    known = data.modality if isinstance(data, Source) else None
    known = known or find_modality(data, options.get("modality"), options.get("data_dir"))
    return PAPER_MODELS[base_recipe].get(known)


def data_options(data, preset, options, preprocess):
    """`(options of load_source, settings of what stands before the model)` that are given, behind those of a preset of
    the paper, which has its own.

    Raises:
        InputError: where such a preset is not for the modality of the data.
    """
    options, preprocess = given(options), given(preprocess)
    if preset not in PAPER_PRESETS:
        return options, preprocess
    of_data, of_model = paper_options(preset)
    if isinstance(data, Source):
        return options, {**of_model, **preprocess}
    found = find_modality(data, options.get("modality"), options.get("data_dir"))
    require_modality(preset, found or modality_of(PAPER_PRESETS[preset]["input_shape"]))
    return {**of_data, **options}, {**of_model, **preprocess}


def with_settings(path, settings):
    """Arguments of `train` from a JSON file, below those that are given.

    Args:
        path: of `{"preset", "base_recipe": name, "source", "preprocess", "model", "recipe": {name: value}}`, or of some
            of these, such as the `best.json` of a search.
        settings: the same that are given: they stand above the file's.

    Returns:
        The same with both.

    Raises:
        InputError: where there is no such file, or it holds something else.
    """
    below = read_json_object(path, "config", f"It holds some of {', '.join(settings)}.")
    merged = dict(settings)
    for name, value in below.items():
        require_one_of(settings, config=name)
        is_nested = isinstance(settings[name], dict)
        form = "{name: value}" if is_nested else "a name"
        require(isinstance(value, dict if is_nested else str), f"`{name}` must be {form} in `config`", **{name: value})
        if is_nested:
            as_tuples = {key: tuple(one) if isinstance(one, list) else one for key, one in value.items()}
            merged[name] = {**as_tuples, **given(settings[name])}
        elif settings[name] is None:
            merged[name] = value
    recipe = [field.name for field in dataclasses.fields(Recipe)]
    _require_known("recipe", merged, recipe, "attributes of `Recipe`")
    _require_known("source", merged, inspect.signature(load_source).parameters, "arguments of `load_source`")
    return merged


def _require_known(name, settings, known, kind):
    unknown = sorted(set(settings.get(name, ())) - set(known))
    repair = nearest(unknown[0], known) if unknown else ""
    require(not unknown, f"`{name}` must hold {kind} in `config`", unknown=unknown, repair=repair)


def continued_source(source, data, run, options, console, workers):
    """The data of a run that goes on, in its splits and its shape whatever files were added; `source` is without."""
    workers.by_chief(lambda: run.require_same({"data": source.data}, OTHER_FOLDER))
    splits, shape = workers.by_chief(lambda: [run.splits(), run.config()["source"]["shape"]])
    is_same = splits in (None, source.made_splits) and list(source.example_shape) == shape
    if source is not data and not is_same:
        chosen = {"shape", *MODALITIES[source.modality].options}
        kept = {} if chosen & options.keys() else {"shape": shape}
        source = load_source(data, console=console, splits=splits, **kept, **options)
    require(
        splits in (None, source.made_splits),
        f"The data must be in the splits of the run in {str(run.folder)!r}",
        repair=f"Make the `Source` as it was made then, with the same `seed`. {OTHER_FOLDER}",
    )
    return source


def configuration(
    source, seed, network, model_overrides, recipe_overrides, preprocess=None, preset=None, base_recipe=None
):
    """Everything that a run is known by, as JSON holds it: data, model, training and seed."""
    kind = MODALITIES[source.modality]
    before = given(preprocess)
    unknown = sorted(set(before) - set(kind.settings))
    require(not unknown, f"These settings are not for data of the modality {kind.name!r}", preprocess=unknown)
    return {
        "data": source.data,
        "source": source.description(),
        "preprocess": before,
        "network": network,
        "model": {
            **_model_arguments(source, network, preset, model_overrides),
            "input_shape": kind.input_shape(source.example_shape, **before),
            "num_classes": len(source.class_names),
        },
        "training": dataclasses.asdict(resolved_recipe(source, recipe_overrides, base_recipe, before)),
        "seed": seed,
    }


def check_names(network, preset, base_recipe):
    """Requires names that are known, and a preset for no other network than the Perceiver."""
    if preset is not None:
        require_one_of(PRESETS, preset=preset)
        require(network == "perceiver", "`preset` must not be given for another network", network=network)
    if base_recipe is not None:
        require_one_of(RECIPES, recipe=base_recipe)


def require_modality(preset, modality):
    takes = modality_of(PRESETS[preset]["input_shape"])
    require(
        takes == modality,
        "`preset` must be a model for the modality of the data",
        preset=preset,
        takes=takes,
        data=modality,
    )


def _model_arguments(source, network, preset, overrides):
    """The preset's arguments with those that are given; the specialised networks have none of the Perceiver's."""
    chosen = given(overrides)
    known = inspect.signature(build_encoder if network == "perceiver" else NETWORKS[network]).parameters
    known = sorted(known.keys() - {"input_shape", "num_classes", "name", "dtype"})
    unknown = sorted(chosen.keys() - set(known))
    require(
        not unknown,
        "The network must know what is chosen for its model",
        network=network,
        unknown=unknown,
        repair=(nearest(unknown[0], known) if unknown else "") or f"It knows {', '.join(known)}.",
    )
    if network != "perceiver":
        return chosen
    require_modality(preset or source.preset, source.modality)
    # Whether examples come with a mask is a fact of the data.
    with_mask = {"padding_mask": PRESETS[source.modality].get("padding_mask", False)}
    return {**preset_arguments(preset or source.preset, chosen), **with_mask}


def what_differs(preset, model):
    """Sentences on what a model has from the data and not from the preset that was asked for."""
    if preset is None:
        return []
    known = {"input_shape": "inputs", "num_classes": "classes"}
    others = [
        f"{words} {model[name]} in place of {PRESETS[preset][name]}"
        for name, words in known.items()
        if json.dumps(model[name]) != json.dumps(PRESETS[preset][name])
    ]
    return [f"{preset} is built for the data: {', '.join(others)}"] if others else []


def resolved_recipe(source, overrides, base=None, preprocess=None):
    """The recipe of that name, of the data set, or of its modality, for so many examples.

    SpecAugment is of spectrograms, as in the paper: raw samples are not masked unless masks are asked for.
    """
    recipe = RECIPES[base or source.preset]
    own = augmentation_names(source.modality)
    for name, value in given(overrides).items():
        others = [modality for modality in MODALITIES if name in augmentation_names(modality)]
        require(
            not others or name in own or value == getattr(recipe, name),
            f"`{name}` must be given for data of {' or '.join(others)} alone: it would change nothing",
            **{name: value, "data": source.modality},
        )
    if given(preprocess).get("audio_input") == "raw":
        recipe = recipe.replaced(time_masks=0, frequency_masks=0)
    return recipe.resolved(len(source.splits["train"]), **overrides)
