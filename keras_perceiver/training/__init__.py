"""Training: recipes, runs that resume, metrics. Imported on demand, never by `import keras_perceiver`."""

from keras_perceiver.training.best import BestEpoch
from keras_perceiver.training.board import AttentionImages, GradientNorms, ModelGraph
from keras_perceiver.training.configuration import with_settings
from keras_perceiver.training.distribution import (
    MirroredStrategy,
    MultiWorkerStrategy,
    WorkerLost,
    Workers,
    build_strategy,
    clip_whole_gradients,
)
from keras_perceiver.training.divergence import StopOnNonFiniteLoss
from keras_perceiver.training.evaluate import evaluate
from keras_perceiver.training.exports import export_run
from keras_perceiver.training.history import write_history
from keras_perceiver.training.hypermodel import HyperPerceiver
from keras_perceiver.training.initial import find_initial, freeze, take_weights
from keras_perceiver.training.lamb import Lamb
from keras_perceiver.training.launcher import launch
from keras_perceiver.training.memory import keep_freed_memory
from keras_perceiver.training.metrics import figure_of
from keras_perceiver.training.plan import Plan
from keras_perceiver.training.precision import MeanAveragePrecision
from keras_perceiver.training.progress import History, ProgressBar
from keras_perceiver.training.recipes import PRECISIONS, RECIPES, Recipe
from keras_perceiver.training.resume import Checkpoints
from keras_perceiver.training.runs import Run
from keras_perceiver.training.stopping import Stopped, StopRequest
from keras_perceiver.training.train import train

__all__ = [
    "PRECISIONS",
    "RECIPES",
    "AttentionImages",
    "BestEpoch",
    "Checkpoints",
    "GradientNorms",
    "History",
    "HyperPerceiver",
    "Lamb",
    "MeanAveragePrecision",
    "MirroredStrategy",
    "ModelGraph",
    "MultiWorkerStrategy",
    "Plan",
    "ProgressBar",
    "Recipe",
    "Run",
    "StopOnNonFiniteLoss",
    "StopRequest",
    "Stopped",
    "WorkerLost",
    "Workers",
    "build_strategy",
    "clip_whole_gradients",
    "evaluate",
    "export_run",
    "figure_of",
    "find_initial",
    "freeze",
    "keep_freed_memory",
    "launch",
    "take_weights",
    "train",
    "with_settings",
    "write_history",
]
