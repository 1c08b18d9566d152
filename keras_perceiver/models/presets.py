"""Models by name, as readable data."""

from keras_perceiver._checks import require_one_of
from keras_perceiver.models.classifier import build_classifier

PRESETS = {
    # Ours: for pictures of any data set, whose shape and classes replace these, on two cores. What helped is written
    # down beside its recipe.
    "image": {
        "input_shape": (64, 64, 3),
        "num_classes": 10,
        "stem": "conv",
        "stem_channels": 64,
        "num_stem_layers": 2,
        "positions": "fourier",
        "num_bands": 6,
        "num_latents": 32,
        "latent_dim": 128,
        "num_blocks": 2,
        "num_cross_attends": 2,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 32,
        "num_self_attention_layers": 2,
        "num_self_attention_heads": 4,
    },
    # For sounds of any data set: a second of log-mel frames in patches of 4x4 is some 400 bytes; a first guess.
    "audio": {
        "input_shape": {"audio": (96, 64, 1)},
        "num_classes": 10,
        "padding_mask": True,
        "patch_size": 4,
        "positions": "fourier",
        "num_bands": 8,
        "num_latents": 32,
        "latent_dim": 128,
        "num_blocks": 2,
        "num_cross_attends": 2,
        "num_cross_attention_heads": 4,
        "cross_attention_head_dim": 32,
        "num_self_attention_layers": 2,
        "num_self_attention_heads": 8,
    },
    # For films of any data set, whose shape and classes replace these; a first guess, to be tuned. Patches as in the
    # paper's video models, on smaller frames.
    "video": {
        "input_shape": (16, 64, 64, 3),
        "num_classes": 10,
        "patch_size": (2, 8, 8),
        "positions": "fourier",
        "num_bands": 8,
        "num_latents": 64,
        "latent_dim": 128,
        "num_blocks": 2,
        "num_cross_attends": 2,
        "num_cross_attention_heads": 4,
        "cross_attention_head_dim": 32,
        "num_self_attention_layers": 3,
        "num_self_attention_heads": 8,
    },
    # For clouds of points of any data set, whose shape and classes replace these; a first guess, to be tuned: far lower
    # frequencies than the paper's, which would make noise of noisy coordinates.
    "points": {
        "input_shape": {"points": (2048, 3)},
        "num_classes": 10,
        "padding_mask": True,
        "positions": "coordinates",
        "num_bands": 16,
        "max_resolution": 32,
        "num_latents": 64,
        "latent_dim": 128,
        "num_blocks": 2,
        "num_cross_attends": 2,
        "num_cross_attention_heads": 4,
        "cross_attention_head_dim": 32,
        "num_self_attention_layers": 3,
        "num_self_attention_heads": 8,
    },
    # Jaegle et al. 2021, section 4.1 and appendix C: 44,912,254 parameters.
    "imagenet": {
        "input_shape": (224, 224, 3),
        "num_classes": 1000,
        "positions": "fourier",
        "num_bands": 64,
        "max_resolution": 224,
        "num_latents": 512,
        "latent_dim": 1024,
        "num_blocks": 8,
        "num_cross_attends": 8,
        "num_cross_attention_heads": 1,
        "num_self_attention_layers": 6,
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


def build_preset(preset, **overrides):
    """Builds the model that `PRESETS` knows by that name, with arguments of `build_classifier` replaced."""
    return build_classifier(**preset_arguments(preset, overrides))


def preset_arguments(preset, overrides):
    """Arguments of `build_classifier`: the preset's, some of them replaced. Patches take the place of a stem."""
    require_one_of(PRESETS, preset=preset)
    arguments = {**PRESETS[preset], **overrides}
    if overrides.get("patch_size") is not None and "stem" not in overrides:
        arguments["stem"] = None
    return arguments
