"""The SavedModel of the small classifier, for all tests that only look at it."""

import pytest

from keras_perceiver.export import export_saved_model
from tests.small_classifier import NAMES, small_classifier


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """(model, `Export`) of a SavedModel with provenance; not to be changed."""
    model = small_classifier()
    provenance = {"data": "zoo", "metrics": {"accuracy": 0.75}, "configuration": {"seed": 7}, "licence": "CC0"}
    shelf = tmp_path_factory.mktemp("shelf")
    return model, export_saved_model(model, "animals", NAMES, shelf=shelf, provenance=provenance)
