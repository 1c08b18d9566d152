"""Broken files of every format end in an example or in a clear error, in bounded time and memory."""

import resource
import time

import fuzz_images
import pytest
from fuzz import FILES, main, mutants


@pytest.mark.parametrize("name", FILES)
def test_mutants_end_in_an_example_or_in_an_error_of_the_users(name):
    content, outcome = FILES[name]
    read = outcome(content)
    assert read in ("pixels", "samples", "frames", "points")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = set()
    for mutant in mutants(content, 100, seed=1):
        began = time.process_time()
        outcomes.add(outcome(mutant))
        assert time.process_time() - began < 10
    # Of the smallest meshes and clouds hardly a byte may change: some of them have no mutant that can be read.
    assert outcomes == {read, "refused"} or (outcomes == {"refused"} and outcome is not fuzz_images.outcome)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # 1 GiB


def test_the_command_runs(capsys):
    main(["--mutants", "2"])
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(FILES)
