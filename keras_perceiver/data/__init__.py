"""Files and data sets -> `tf.data`. Imported on demand, never by `import keras_perceiver`."""

from keras_perceiver.data.images import normalize_pixels, read_image
from keras_perceiver.data.pipeline import evaluation_dataset, training_dataset
from keras_perceiver.data.sources import Source, Split, load_source

__all__ = [
    "Source",
    "Split",
    "evaluation_dataset",
    "load_source",
    "normalize_pixels",
    "read_image",
    "training_dataset",
]
