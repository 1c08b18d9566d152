"""Trained models -> what serves them. Imported on demand, never by `import keras_perceiver`."""

from keras_perceiver.export.benchmark import Timing, benchmark, timings_table
from keras_perceiver.export.client import ServedModel
from keras_perceiver.export.litert import QUANTIZE, export_litert
from keras_perceiver.export.predict import Prediction, SavedClassifier, predict
from keras_perceiver.export.saved_model import export_saved_model
from keras_perceiver.export.serving_config import ServingConfig, parse_versions, write_serving_config
from keras_perceiver.export.shelf import Export

__all__ = [
    "QUANTIZE",
    "Export",
    "Prediction",
    "SavedClassifier",
    "ServedModel",
    "ServingConfig",
    "Timing",
    "benchmark",
    "export_litert",
    "export_saved_model",
    "parse_versions",
    "predict",
    "timings_table",
    "write_serving_config",
]
