"""Studies: the paper's questions, asked of one's own data. Imported on demand, never by `import keras_perceiver`."""

from keras_perceiver.studies.questions import QUESTIONS, Arm, Question
from keras_perceiver.studies.report import ArmResult, StudyResult
from keras_perceiver.studies.study import study
from keras_perceiver.training import Stopped

__all__ = ["QUESTIONS", "Arm", "ArmResult", "Question", "Stopped", "StudyResult", "study"]
