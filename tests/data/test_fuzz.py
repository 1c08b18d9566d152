"""Broken files of every format end in an example or in a clear error, in bounded time and memory."""

import time

import fuzz
import pytest
from fuzz import FILES, main, mutants

from keras_perceiver.training.memory import PeakMemory


@pytest.mark.parametrize("name", FILES)
def test_mutants_end_in_an_example_or_in_an_error_of_the_users(name):
    content, outcome = FILES[name]
    read = outcome(content)
    assert read in ("pixels", "samples", "frames", "points")
    memory = PeakMemory()
    outcomes = set()
    for mutant in mutants(content, 100, seed=1):
        began = time.process_time()
        outcomes.add(outcome(mutant))
        assert time.process_time() - began < 10
    assert outcomes == {read, "refused"}
    assert memory.measure() < 2**30


def test_the_command_runs(capsys, monkeypatch):
    """Over all files above; here over two."""
    two = dict(list(FILES.items())[:2])
    monkeypatch.setattr(fuzz, "FILES", two)
    main(["--mutants", "2"])
    _, *rows = capsys.readouterr().out.splitlines()
    assert [row[:24].strip() for row in rows] == list(two)
