"""Broken files of every format end in an example or in a clear error, in bounded time and memory."""

import time

import fuzz_points
import pytest
from fuzz import FILES, forget_peak, main, mutants, peak_bytes


@pytest.mark.parametrize("name", FILES)
def test_mutants_end_in_an_example_or_in_an_error_of_the_users(name):
    content, outcome = FILES[name]
    read = outcome(content)
    assert read in ("pixels", "samples", "frames", "points")
    forget_peak()
    before = peak_bytes()
    outcomes = set()
    for mutant in mutants(content, 100, seed=1):
        began = time.process_time()
        outcomes.add(outcome(mutant))
        assert time.process_time() - began < 10
    # Of the smallest meshes and clouds hardly a byte may change: some of them have no mutant that can be read.
    assert outcomes == {read, "refused"} or (outcomes == {"refused"} and name in fuzz_points.valid_files())
    assert peak_bytes() - before < 2**30


def test_the_command_runs(capsys):
    main(["--mutants", "2"])
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(FILES)
