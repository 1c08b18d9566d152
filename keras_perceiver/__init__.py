"""The Perceiver (Jaegle et al. 2021) for Keras 3: layers, models and what surrounds them."""

from keras_perceiver.layers import (
    MLP,
    ByteNormalization,
    ConcatenatedBytes,
    CrossAttention,
    FourierPositions,
    LatentArray,
    LatentTransformer,
    LearnedPositions,
    ModalityDropout,
    ModalityEncoding,
    Patches,
    SelfAttention,
)
from keras_perceiver.models import build_classifier, build_encoder, build_preset

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "ByteNormalization",
    "ConcatenatedBytes",
    "CrossAttention",
    "FourierPositions",
    "LatentArray",
    "LatentTransformer",
    "LearnedPositions",
    "ModalityDropout",
    "ModalityEncoding",
    "Patches",
    "SelfAttention",
    "__version__",
    "build_classifier",
    "build_encoder",
    "build_preset",
]
