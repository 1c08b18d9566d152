"""Models by name, as readable data."""

import inspect

from keras_perceiver._checks import require, require_one_of
from keras_perceiver.models.classifier import build_classifier
from keras_perceiver.models.encoder import build_encoder, of_modality
from keras_perceiver.models.paper_presets import (
    CLIP_SECONDS,
    FRAME_RATE,
    PAPER_PRESETS,
    PAPER_PROVENANCE,
    SAMPLE_RATE,
    Provenance,
)

_SMALL_GRID = {"input_shape": (64, 64, 3), "num_classes": 10, "positions": "fourier", "num_bands": 16}

# What helped small pictures, and then sounds and films; how, is written down beside their recipes.
_FEW_LATENTS = {
    "num_latents": 16,
    "latent_dim": 128,
    "num_blocks": 2,
    "num_cross_attends": 2,
    "num_cross_attention_heads": 2,
    "cross_attention_head_dim": 32,
    "num_self_attention_layers": 2,
}

_BEHIND_CONVOLUTIONS = {"stem": "conv", "stem_channels": 64, "num_stem_layers": 2, **_FEW_LATENTS}

PRESETS = {
    **PAPER_PRESETS,
    # Ours, for a laptop: the shape of the paper's ImageNet model, fewer of everything, single pixels in front.
    "tiny": {
        **_SMALL_GRID,
        "num_latents": 32,
        "latent_dim": 64,
        "num_blocks": 2,
        "num_cross_attends": 2,
        "num_self_attention_layers": 2,
        "num_self_attention_heads": 4,
    },
    "small": {
        **_SMALL_GRID,
        "num_latents": 64,
        "latent_dim": 128,
        "num_blocks": 4,
        "num_cross_attends": 2,
        "num_self_attention_layers": 3,
        "num_self_attention_heads": 4,
    },
    "base": {
        **_SMALL_GRID,
        "num_latents": 128,
        "latent_dim": 256,
        "num_blocks": 4,
        "num_cross_attends": 4,
        "num_self_attention_layers": 6,
        "num_self_attention_heads": 8,
    },
    # Ours: for pictures of any data set, whose shape and classes replace these, on two cores. What helped is written
    # down beside its recipe.
    "image": {
        "input_shape": (64, 64, 3),
        "num_classes": 10,
        **_BEHIND_CONVOLUTIONS,
        "positions": "fourier",
        "num_bands": 6,
        "num_self_attention_heads": 4,
    },
    # For sounds of any data set: what helped pictures, before a second of log-mel frames: some 400 bytes.
    "audio": {
        "input_shape": {"audio": (96, 64, 1)},
        "num_classes": 10,
        "padding_mask": True,
        **_BEHIND_CONVOLUTIONS,
        "positions": "fourier",
        "num_bands": 8,
        "num_self_attention_heads": 8,
    },
    # For films with their sound: in front of each what stands in front of it alone. Films are hidden more often than in
    # the paper: what is learned of them keeps the sound from being learned.
    "audio_video": {
        "input_shape": {"video": (16, 64, 64, 3), "audio": (96, 64, 1)},
        "num_classes": 10,
        "padding_mask": True,
        "modality_dropout": {"video": 0.5},
        "patch_size": {"video": (2, 8, 8)},
        **_BEHIND_CONVOLUTIONS,
        "stem": {"audio": "conv"},
        "positions": "fourier",
        "num_bands": 8,
        "num_self_attention_heads": 8,
    },
    # For films of any data set, whose shape and classes replace these: patches as in the paper's video models, on
    # smaller frames. Behind convolutions nothing was learned of synthetic films of moving shapes.
    "video": {
        "input_shape": (16, 64, 64, 3),
        "num_classes": 10,
        "patch_size": (2, 8, 8),
        "positions": "fourier",
        "num_bands": 8,
        **_FEW_LATENTS,
        "num_cross_attention_heads": 4,
        "num_self_attention_heads": 8,
    },
    # For clouds of points of any data set, whose shape and classes replace these: far fewer and lower frequencies than
    # the paper's, with which the model knows its training clouds by heart.
    "points": {
        "input_shape": {"points": (2048, 3)},
        "num_classes": 10,
        "padding_mask": True,
        "positions": "coordinates",
        "num_bands": 4,
        "max_resolution": 8,
        **_FEW_LATENTS,
        "num_cross_attention_heads": 4,
        "num_self_attention_heads": 8,
    },
    # Ours: scikit-learn's 8x8 handwritten digits, sized for two minutes on two cores; few latents for speed, and so
    # several heads in the cross-attends, where the paper has one.
    "digits": {
        "input_shape": (8, 8, 1),
        "num_classes": 10,
        "positions": "fourier",
        "num_bands": 3,
        "max_resolution": 4,
        "num_latents": 8,
        "latent_dim": 64,
        "num_blocks": 2,
        "num_cross_attends": 2,
        "num_cross_attention_heads": 8,
        "cross_attention_head_dim": 16,
        "num_self_attention_layers": 2,
        "num_self_attention_heads": 4,
    },
}


# By argument, without which values of which other one it would change nothing.
NEEDS = {
    "num_bands": ("positions", ("fourier", "coordinates")),
    "max_resolution": ("positions", ("fourier", "coordinates")),
    "position_channels": ("positions", ("learned",)),
    "stem_channels": ("stem", ("conv",)),
    "num_stem_layers": ("stem", ("conv",)),
}

# Where each comes from; what is not here is ours.
PROVENANCE = {name: PAPER_PROVENANCE.get(name, Provenance("ours")) for name in PRESETS}


def build_preset(preset, **overrides):
    """Builds the model that `PRESETS` knows by that name, with arguments of `build_classifier` replaced."""
    return build_classifier(**preset_arguments(preset, overrides))


def preset_arguments(preset, overrides):
    """Arguments of `build_classifier`: the preset's, some of them replaced. Patches take the place of a stem, and a
    stem that of patches, of those modalities for which they are given.

    Raises:
        InputError: where the preset or an override is unknown, or one would change nothing beside the others.
    """
    require_one_of(PRESETS, preset=preset)
    known = {name for build in (build_classifier, build_encoder) for name in inspect.signature(build).parameters}
    for name in overrides:
        require_one_of(sorted(known - {"encoder_arguments"}), override=name)
    arguments = {**PRESETS[preset], **overrides}
    for name, other in (("patch_size", "stem"), ("stem", "patch_size")):
        if overrides.get(name) is not None and other not in overrides:
            arguments[other] = remaining_front(arguments.get(other), overrides[name], arguments["input_shape"]) or None
    for name, (other, values) in NEEDS.items():
        require(
            overrides.get(name) is None or has_effect(values, arguments.get(other)),
            f"`{name}` must be given with `{other}` {' or '.join(map(repr, values))} alone: it would change nothing",
            **{name: overrides.get(name), other: arguments.get(other)},
        )
    return arguments


def remaining_front(front, chosen, input_shape):
    """What stands in front of each modality, a setting or `{modality: setting}`, without those for which something else
    was chosen to stand there; `{}` where nothing remains."""
    modalities = input_shape if isinstance(input_shape, dict) else ["inputs"]
    left = {name: of_modality(front, name) for name in modalities if of_modality(chosen, name) is None}
    return {name: one for name, one in left.items() if one is not None}


def has_effect(values, other):
    """Whether what needs one of these values of another argument has it, of any modality."""
    return any(value in values for value in (other.values() if isinstance(other, dict) else [other]))


def modality_of(input_shape):
    """What a model takes, by its inputs: "image", "video", or the names of its modalities, such as "audio_video"."""
    if isinstance(input_shape, dict):
        return "_".join(sorted(input_shape))
    return {3: "image", 4: "video"}[len(input_shape)]


def paper_options(preset):
    """`(options of load_source, settings of what stands before the model)` that give the data the size and the form of
    a model of the paper."""
    shape = PAPER_PRESETS[preset]["input_shape"]
    modality = modality_of(shape)
    if modality == "image":
        return {"image_size": shape[:2]}, {}
    if modality == "points":
        return {"num_points": shape["points"][0]}, {}
    options, settings = {}, {}
    if modality != "audio":
        frames, *size, _ = shape["video"] if isinstance(shape, dict) else shape
        options |= {"num_frames": frames, "frame_size": tuple(size)}
    if modality == "video":
        options |= {"frame_rate": FRAME_RATE}
    if modality != "video":
        options |= {"sample_rate": SAMPLE_RATE, "clip_seconds": CLIP_SECONDS}
        settings = {"audio_input": "raw"}
        if len(shape["audio"]) == 3:  # (T, F, 1)
            frames, bins, _ = shape["audio"]
            settings = {"num_mel_bins": bins, "mel_hop": round(SAMPLE_RATE * CLIP_SECONDS) // frames}
    return options, settings
