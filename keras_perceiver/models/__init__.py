"""Functions that return a `keras.Model` built through the functional API."""

from keras_perceiver.models.classifier import build_classifier
from keras_perceiver.models.encoder import build_encoder
from keras_perceiver.models.presets import PRESETS, build_preset

__all__ = ["PRESETS", "build_classifier", "build_encoder", "build_preset"]
