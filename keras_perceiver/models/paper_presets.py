"""The models of the paper, as data: arguments of `build_classifier`, where they come from, and what is our choice.

The paper is Jaegle et al. 2021, version 2. Where its text is silent, the choice stands in `choices` by argument, with
its reason; "DeepMind's release" is the code of Perceiver IO, which came later.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Provenance:
    """Where a preset comes from: its source in words, and our choices, `{argument: reason}`, where that is silent."""

    source: str
    choices: dict[str, str] = field(default_factory=dict)


_IMAGENET = {
    "input_shape": (224, 224, 3),
    "num_classes": 1000,
    "positions": "fourier",
    "num_bands": 64,
    "num_latents": 512,
    "latent_dim": 1024,
    "num_blocks": 8,
    "num_cross_attends": 8,
    "num_cross_attention_heads": 1,
    "num_self_attention_layers": 6,
    "num_self_attention_heads": 8,
}
_AUDIOSET = {
    "num_classes": 527,
    "positions": "fourier",
    "num_latents": 512,
    "latent_dim": 512,
    "num_blocks": 2,
    "num_cross_attends": 2,
    "num_cross_attention_heads": 1,
    "num_self_attention_layers": 8,
    "num_self_attention_heads": 8,
    "share_weights": False,
}
SAMPLE_RATE, CLIP_SECONDS = 48_000, 1.28  # of the models of sounds
FRAME_RATE = 25  # of the models of films
_RAW_AUDIO, _VIDEO = (61_440, 1), (32, 224, 224, 3)  # so many samples; 32 frames at 25 a second

PAPER_PRESETS = {
    "imagenet": _IMAGENET,
    "imagenet_learned": {
        **{name: value for name, value in _IMAGENET.items() if name != "num_bands"},
        "positions": "learned",
        "position_channels": 128,
        "num_cross_attends": 1,
    },
    "imagenet_permuted": {**_IMAGENET, "permute_seed": 0},
    "audioset_raw": {**_AUDIOSET, "input_shape": {"audio": _RAW_AUDIO}, "patch_size": 128, "num_bands": 64},
    "audioset_mel": {**_AUDIOSET, "input_shape": {"audio": (60, 80, 1)}, "flatten_axes": True, "num_bands": 64},
    "audioset_video": {**_AUDIOSET, "input_shape": _VIDEO, "patch_size": (2, 8, 8), "num_bands": 16},
    "audioset_audio_video": {
        **_AUDIOSET,
        "input_shape": {"audio": _RAW_AUDIO, "video": _VIDEO},
        "patch_size": {"audio": 128, "video": (2, 8, 8)},
        "modality_dropout": {"video": 0.3},
        "num_bands": 16,
    },
    "modelnet40": {
        "input_shape": {"points": (2048, 3)},
        "num_classes": 40,
        "padding_mask": True,
        "positions": "coordinates",
        "num_bands": 64,
        "max_resolution": 2240,
        "num_latents": 512,
        "latent_dim": 1024,
        "num_blocks": 2,
        "num_cross_attends": 2,
        "num_cross_attention_heads": 1,
        "num_self_attention_layers": 6,
        "num_self_attention_heads": 8,
    },
}

# By recipe of the paper and modality of the data, the model that it trains where no other is named.
PAPER_MODELS = {
    "imagenet": {"image": "imagenet"},
    "audioset": {"audio": "audioset_mel", "video": "audioset_video", "audio_video": "audioset_audio_video"},
    "modelnet40": {"points": "modelnet40"},
}

_LATENT_DIM = "DeepMind's release; the text gives the 512 latents only"
_RESOLUTION = "the length of each axis, so that the highest frequency is its Nyquist frequency, as for images"
_AUDIO_BANDS = "as for images: the 480 or 4,800 positions would allow more, and no number is given"

PAPER_PROVENANCE = {
    "imagenet": Provenance("section 4.1 and appendix C"),
    "imagenet_learned": Provenance(
        "section 4.1 and appendix C",
        {"num_blocks": "8 of 6 layers, as with Fourier features; no other number is given"},
    ),
    "imagenet_permuted": Provenance("section 4.1, table 2", {"permute_seed": "any permutation is as good as another"}),
    "audioset_raw": Provenance(
        "section 4.2", {"latent_dim": _LATENT_DIM, "num_bands": _AUDIO_BANDS, "max_resolution": _RESOLUTION}
    ),
    "audioset_mel": Provenance(
        "section 4.2",
        {
            "input_shape": "60 frames, one for each 1,024 samples at 48 kHz, of 80 bins: the 4,800 inputs of the text",
            "latent_dim": _LATENT_DIM,
            "num_bands": _AUDIO_BANDS,
            "max_resolution": _RESOLUTION,
        },
    ),
    "audioset_video": Provenance(
        "section 4.2", {"latent_dim": _LATENT_DIM, "num_bands": "the only ones that give the 487 channels of the text"}
    ),
    "audioset_audio_video": Provenance(
        "section 4.2 and appendix E",
        {
            "input_shape": "raw audio, which was the better of the two beside video (43.5 mAP against 43.2)",
            "latent_dim": _LATENT_DIM,
            "num_bands": "of the video, the only ones that give the 487 channels of the text; one number for both",
            "max_resolution": _RESOLUTION,
        },
    ),
    "modelnet40": Provenance(
        "section 4.3 and appendix C",
        {
            "input_shape": "2,048 points, where the text says about 2,000",
            "positions": "coordinates with their Fourier features are all of a byte: 387 channels; C is not given",
            "share_weights": "as for images",
        },
    ),
}
