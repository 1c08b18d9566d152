"""Trained models -> what serves them. Imported on demand, never by `import keras_perceiver`."""

from keras_perceiver.export.predict import Prediction, SavedClassifier, predict
from keras_perceiver.export.saved_model import export_saved_model

__all__ = ["Prediction", "SavedClassifier", "export_saved_model", "predict"]
