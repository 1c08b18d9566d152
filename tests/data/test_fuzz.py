"""Broken picture files of every format end in pixels or in a clear error, in bounded time and memory."""

import resource
import time

import fuzz_points
import pytest
from fuzz_images import main, mutants, outcome, valid_files

FILES = valid_files()


@pytest.mark.parametrize("name", FILES)
def test_mutants_end_in_pixels_or_in_an_error_of_the_users(name):
    assert outcome(FILES[name]) == "pixels"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = set()
    for mutant in mutants(FILES[name], 100, seed=1):
        began = time.process_time()
        outcomes.add(outcome(mutant))
        assert time.process_time() - began < 10
    assert outcomes == {"pixels", "refused"}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # 1 GiB


def test_the_command_runs(capsys):
    main(["--mutants", "2"])
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(FILES)


CLOUDS = fuzz_points.valid_files()


@pytest.mark.parametrize("name", CLOUDS)
def test_mutants_end_in_points_or_in_an_error_of_the_users(name):
    content, extension = CLOUDS[name]
    assert fuzz_points.outcome(content, extension) == "points"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = set()
    for mutant in mutants(content, 100, seed=1):
        outcomes.add(fuzz_points.outcome(mutant, extension))
    assert "refused" in outcomes
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # 1 GiB
