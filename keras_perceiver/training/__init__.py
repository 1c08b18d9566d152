"""Training: recipes, runs that resume, metrics. Imported on demand, never by `import keras_perceiver`."""

from keras_perceiver.training.evaluate import evaluate
from keras_perceiver.training.exports import export_run
from keras_perceiver.training.hypermodel import HyperPerceiver
from keras_perceiver.training.lamb import Lamb
from keras_perceiver.training.memory import keep_freed_memory
from keras_perceiver.training.metrics import figure_of
from keras_perceiver.training.recipes import RECIPES, Recipe
from keras_perceiver.training.runs import Run
from keras_perceiver.training.train import train

__all__ = [
    "RECIPES",
    "HyperPerceiver",
    "Lamb",
    "Recipe",
    "Run",
    "evaluate",
    "export_run",
    "figure_of",
    "keep_freed_memory",
    "train",
]
