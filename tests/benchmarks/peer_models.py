"""The paper's ImageNet model, as each library of `peers.py` builds it from one dictionary of settings."""

import sys
import types
from pathlib import Path


def build_ours(settings):
    """A compiled Keras model."""
    import keras

    import keras_perceiver

    size, model = settings["size"], settings["model"]
    classifier = keras_perceiver.build_classifier(
        (size, size, 3),
        num_classes=model["classes"],
        num_bands=model["bands"],
        num_latents=model["latents"],
        latent_dim=model["dim"],
        num_blocks=model["blocks"],
        num_cross_attends=model["blocks"],
        num_self_attention_layers=model["layers"],
        num_self_attention_heads=model["heads"],
        cross_attention_implementation="dense" if settings["library"] == "textbook" else "auto",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile("adam", loss, jit_compile=settings["mode"] == "XLA")
    return classifier


def build_krasserm(settings):
    """krasserm's encoder, set up as the paper's, behind a mean and a linear map."""
    import torch

    sys.path.insert(0, settings["krasserm"])
    # The packages on the way to the model import its training framework too: they are passed over.
    for name in ("perceiver.model.vision", "perceiver.model.vision.image_classifier"):
        package = types.ModuleType(name)
        package.__path__ = [str(Path(settings["krasserm"], *name.split(".")))]
        sys.modules[name] = package
    from perceiver.model.core.modules import PerceiverEncoder
    from perceiver.model.vision.image_classifier.backend import ImageInputAdapter

    class Classifier(torch.nn.Module):
        def __init__(self, size, model):
            super().__init__()
            adapter = ImageInputAdapter((size, size, 3), model["bands"])
            self.encoder = PerceiverEncoder(
                adapter,
                model["latents"],
                model["dim"],
                num_cross_attention_heads=1,
                num_cross_attention_qk_channels=adapter.num_input_channels,
                num_cross_attention_layers=model["blocks"],
                num_self_attention_heads=model["heads"],
                num_self_attention_layers_per_block=model["layers"],
                num_self_attention_blocks=model["blocks"],
            )
            self.head = torch.nn.Linear(model["dim"], model["classes"])

        def forward(self, x):
            return self.head(self.encoder(x).mean(dim=1))

    return Classifier(settings["size"], settings["model"])


def build_huggingface(settings):
    import torch
    from transformers import PerceiverConfig
    from transformers.models.perceiver import modeling_perceiver as perceiver

    size, model = settings["size"], settings["model"]
    config = PerceiverConfig(
        num_latents=model["latents"],
        d_latents=model["dim"],
        num_blocks=model["blocks"],
        num_self_attends_per_block=model["layers"],
        num_self_attention_heads=model["heads"],
        num_cross_attention_heads=1,
        attention_probs_dropout_prob=0.0,
        num_labels=model["classes"],
    )
    positions = {"concat_pos": True, "max_resolution": (size, size), "num_bands": model["bands"], "sine_only": False}
    front = perceiver.PerceiverImagePreprocessor(
        config, prep_type="pixels", spatial_downsample=1, fourier_position_encoding_kwargs=positions
    )
    query = {"num_channels": model["dim"], "index_dims": 1}
    decoder = perceiver.PerceiverClassificationDecoder(
        config, num_channels=model["dim"], trainable_position_encoding_kwargs=query, use_query_residual=True
    )

    class Classifier(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.perceiver = perceiver.PerceiverModel(config, decoder=decoder, input_preprocessor=front)

        def forward(self, x):
            return self.perceiver(inputs=x.permute(0, 3, 1, 2)).logits

    return Classifier()


def build_lucidrains(settings):
    from perceiver_pytorch import Perceiver

    size, model = settings["size"], settings["model"]
    return Perceiver(
        num_freq_bands=model["bands"],
        depth=model["blocks"],
        max_freq=size,
        num_latents=model["latents"],
        latent_dim=model["dim"],
        latent_heads=model["heads"],
        cross_dim_head=2 * (2 * model["bands"] + 1) + 3,
        latent_dim_head=model["dim"] // model["heads"],
        num_classes=model["classes"],
        weight_tie_layers=True,
        self_per_cross_attn=model["layers"],
    )


BUILDERS = {"krasserm": build_krasserm, "huggingface": build_huggingface, "lucidrains": build_lucidrains}
