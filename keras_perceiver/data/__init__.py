"""Files and data sets -> `tf.data`. Imported on demand, never by `import keras_perceiver`."""

from keras_perceiver.data.audio import read_audio
from keras_perceiver.data.audio_features import augment_audio, preprocess_audio, spec_augment
from keras_perceiver.data.augment import augment_image, mix_batch
from keras_perceiver.data.examples import Lazy
from keras_perceiver.data.images import normalize_pixels, preprocess_images, read_image
from keras_perceiver.data.modalities import MODALITIES, Modality
from keras_perceiver.data.pipeline import Shard, evaluation_dataset, steps_per_epoch, training_dataset
from keras_perceiver.data.point_augmentation import augment_points
from keras_perceiver.data.points import preprocess_points, read_points
from keras_perceiver.data.reports import Problem, Report
from keras_perceiver.data.source import Source
from keras_perceiver.data.sources import dataset_source, find_modality, load_source
from keras_perceiver.data.splits import Split
from keras_perceiver.data.video import preprocess_video, read_video
from keras_perceiver.data.video_augmentation import augment_video

__all__ = [
    "MODALITIES",
    "Lazy",
    "Modality",
    "Problem",
    "Report",
    "Shard",
    "Source",
    "Split",
    "augment_audio",
    "augment_image",
    "augment_points",
    "augment_video",
    "dataset_source",
    "evaluation_dataset",
    "find_modality",
    "load_source",
    "mix_batch",
    "normalize_pixels",
    "preprocess_audio",
    "preprocess_images",
    "preprocess_points",
    "preprocess_video",
    "read_audio",
    "read_image",
    "read_points",
    "read_video",
    "spec_augment",
    "steps_per_epoch",
    "training_dataset",
]
