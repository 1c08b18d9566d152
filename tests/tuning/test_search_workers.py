"""A search by several real processes: whichever of them dies, it goes on."""

import io
import json
import threading
import time

import pytest
from rich.console import Console

from tests.tiny import TINY_SEARCH, quiet
from tuning import workers
from tuning.results import read_results
from tuning.search import search


def search_with_workers(folder, monkeypatch, kill, trials, **options):
    """A search of two real workers; `kill` gets the processes by name, as often as one is started."""
    started, start = [], workers.subprocess.Popen

    def popen(command, **options):
        process = start(command, **options)
        if "tuning.workers" in command:
            started.append((options["env"][workers.ID], process))
        return process

    monkeypatch.setattr(workers.subprocess, "Popen", popen)
    killer = threading.Thread(target=kill, args=(started, folder / "trials"))
    killer.start()
    printed = io.StringIO()
    results = search(
        "digits",
        **TINY_SEARCH,
        **options,
        trials=trials,
        workers=2,
        output=folder,
        console=Console(file=printed, width=200),
    )
    killer.join()
    return results, [name for name, _ in started], printed.getvalue()


def wait_for_trial_of(started, project, name):
    """Until a worker has a trial."""
    while True:
        state = json.loads((project / "oracle.json").read_text()) if (project / "oracle.json").is_file() else {}
        if name in state.get("ongoing_trials", {}):
            return state["ongoing_trials"][name]
        if started and all(process.poll() is not None for _, process in started):
            return None
        time.sleep(0.02)


def test_a_dead_workers_trial_is_taken_up_again(tmp_path, monkeypatch):
    killed = []

    def kill(started, project):
        killed.append(wait_for_trial_of(started, project, "worker1"))
        next(process for name, process in started if name == "worker1").kill()

    results, started, printed = search_with_workers(tmp_path / "search", monkeypatch, kill, 2)
    assert started == ["chief", "worker0", "worker1", "worker1"]
    assert "worker1 has ended with SIGKILL, and is started again" in printed
    assert [r.trial for r in results] == ["0", "1"]
    assert [r.status for r in results] == ["completed"] * 2
    assert next(r for r in results if r.trial == killed[0]).worker == "worker1"


@pytest.mark.thorough
def test_a_trial_that_kills_its_worker_is_given_up_and_the_search_goes_on(tmp_path, monkeypatch):
    poisoned = []

    def kill(started, project):
        poisoned.append(wait_for_trial_of(started, project, "worker1"))
        attempts = project / f"trial_{poisoned[0]}" / "attempts.json"
        for deaths in range(3):
            while not attempts.is_file() or len(json.loads(attempts.read_text())["deaths"]) < deaths:
                time.sleep(0.02)
            [process for name, process in started if name == "worker1"][-1].kill()

    results, started, _ = search_with_workers(tmp_path / "search", monkeypatch, kill, 4, tolerate_failures=True)
    assert started.count("worker1") == 4
    assert {r.trial: r.reason for r in results if r.status == "failed"} == {
        poisoned[0]: "its process has died 3 times (SIGKILL)"
    }
    assert [r.status for r in results].count("completed") == 3


@pytest.mark.thorough
def test_workers_of_a_finished_search_end_with_its_chief(tmp_path):
    """The first worker to ask is told that nothing is left, and the chief ends before the other has come."""
    before = search("digits", **TINY_SEARCH, trials=1, output=tmp_path, console=quiet())
    after = search("digits", **TINY_SEARCH, trials=1, workers=2, output=tmp_path, console=quiet())
    assert [(r.trial, r.score) for r in after] == [(r.trial, r.score) for r in before]


@pytest.mark.thorough
def test_a_chief_that_was_killed_goes_on(tmp_path, monkeypatch):
    def kill(started, project):
        wait_for_trial_of(started, project, "worker1")
        next(process for name, process in started if name == "chief").kill()

    results, started, _ = search_with_workers(tmp_path / "search", monkeypatch, kill, 4)
    assert started.count("chief") == 2
    assert [r.trial for r in results] == ["0", "1", "2", "3"]
    assert [r.status for r in results] == ["completed"] * 4
    whole = search("digits", **TINY_SEARCH, trials=4, output=tmp_path / "whole", console=quiet())
    assert [r.values for r in results] == [r.values for r in whole]
    assert [r.score for r in results] == [r.score for r in whole]
    assert len(read_results(tmp_path / "search")) == 4
