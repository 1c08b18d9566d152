"""Looking into models. Imported on demand, never by `import keras_perceiver`."""

from keras_perceiver.inspection.describe import Description, LayerSummary, describe, describe_model

__all__ = ["Description", "LayerSummary", "describe", "describe_model"]
