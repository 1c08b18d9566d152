"""Trials that take their process with them: they are given up, and the search goes on."""

import json
import os
from pathlib import Path

from keras_perceiver._files import write_atomically

ATTEMPTS = "attempts.json"  # of a trial, beside its facts
DIED = "KERAS_PERCEIVER_TUNING_DIED"  # how the one before has ended, in a process that was started again
UNSEEN = "unseen"
MOST_SEEN = 3  # deaths of a worker that is watched, see `run_workers`
MOST_DEATHS = 6  # of any process: one that nobody watches may have been killed by a person, or with the machine


def begin(folder, worker, *, is_watched):
    """Notes that a worker begins a trial, and whether it had died of it before.

    Args:
        folder: of the trial.
        worker: name of the process, under which it is started again.
        is_watched: whether `DIED` says how the one before has ended; one that is not watched has died where it has
            begun the trial and has not said that it is stopped.

    Returns:
        Why the trial is given up; an empty string where it is not.
    """
    path, died = Path(folder) / ATTEMPTS, os.environ.pop(DIED, None)
    known = json.loads(path.read_text()) if path.is_file() else {"worker": None, "deaths": []}
    deaths = known["deaths"]
    if known["worker"] == worker and (died or not is_watched):
        deaths.append(died or UNSEEN)
    _write(path, worker, deaths)
    if len(deaths) - deaths.count(UNSEEN) < MOST_SEEN and len(deaths) < MOST_DEATHS:
        return ""
    return f"its process has died {len(deaths)} times ({', '.join(dict.fromkeys(deaths))})"


def stop(folder):
    """Notes that the process of a trial ends as it is asked to: it does not die of it."""
    path = Path(folder) / ATTEMPTS
    _write(path, None, json.loads(path.read_text())["deaths"])


def _write(path, worker, deaths):
    write_atomically(path, json.dumps({"worker": worker, "deaths": deaths}))
