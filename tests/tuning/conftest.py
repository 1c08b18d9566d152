"""What the tests of searches share."""

import pytest


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """The latency of a model is measured for a moment alone."""
    monkeypatch.setattr("tuning.tuner.LATENCY_SECONDS", 0.01)
