"""Sets that tensorflow-datasets lacks, in its own form: once this is imported, it knows them by name."""

from keras_perceiver.data.builders.audio_set import AudioSet
from keras_perceiver.data.builders.model_net import ModelNet

__all__ = ["AudioSet", "ModelNet"]
