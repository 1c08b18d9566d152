"""Looking into models and data. Imported on demand, never by `import keras_perceiver`."""

from keras_perceiver.inspection.attend import attend
from keras_perceiver.inspection.attention_maps import AttentionMaps, attention_maps
from keras_perceiver.inspection.data import Inspection, inspect_data
from keras_perceiver.inspection.describe import Description, LayerSummary, describe, describe_model
from keras_perceiver.inspection.presets import PresetSummary, list_presets, presets_table

__all__ = [
    "AttentionMaps",
    "Description",
    "Inspection",
    "LayerSummary",
    "PresetSummary",
    "attend",
    "attention_maps",
    "describe",
    "describe_model",
    "inspect_data",
    "list_presets",
    "presets_table",
]
