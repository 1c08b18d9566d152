"""Functions that return a `keras.Model` built through the functional API."""

from keras_perceiver.models.baselines import build_resnet18, build_resnet50
from keras_perceiver.models.classifier import build_classifier
from keras_perceiver.models.encoder import build_encoder
from keras_perceiver.models.paper_presets import Provenance
from keras_perceiver.models.pointnet import build_pointnet
from keras_perceiver.models.presets import PRESETS, PROVENANCE, build_preset
from keras_perceiver.models.transformers import build_transformer, build_vit

# By name: what `train` can train, functions of (input_shape, num_classes, ..).
NETWORKS = {
    "perceiver": build_classifier,
    "resnet18": build_resnet18,
    "resnet50": build_resnet50,
    "vit": build_vit,
    "transformer": build_transformer,
    "pointnet": build_pointnet,
}

__all__ = [
    "NETWORKS",
    "PRESETS",
    "PROVENANCE",
    "Provenance",
    "build_classifier",
    "build_encoder",
    "build_pointnet",
    "build_preset",
    "build_resnet18",
    "build_resnet50",
    "build_transformer",
    "build_vit",
]
