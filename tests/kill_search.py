"""Kills a search at random moments, goes on, and compares with one that nobody killed: `python tests/kill_search.py`.

Every attempt is a process of its own, forked from one that has imported Keras and done nothing with it, and ends by
SIGKILL. In the end the trials must be those of the search that was left alone: the same points and scores, in the same
order, none lost and none twice.
"""

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tiny import TINY_MODEL, quiet

from tuning.results import read_results
from tuning.search import search

SPACE = {"num_latents": [2, 3, 5], "learning_rate": {"min": 1e-3, "max": 1e-2, "sampling": "log"}, "batch_size": [256]}


def run(folder, tuner, trials):
    search(
        "digits",
        tuner=tuner,
        trials=trials,
        epochs=3 if tuner == "hyperband" else 1,
        space=SPACE,
        model=TINY_MODEL,
        recipe={"jit_compile": False},
        output=folder,
        console=quiet(),
    )


def attempt(folder, tuner, trials, seconds=None):
    """Runs a search in a process that is killed after so many seconds; returns whether it was."""
    process = multiprocessing.get_context("fork").Process(target=run, args=(folder, tuner, trials))
    process.start()
    process.join(seconds)
    was_alive = process.is_alive()
    process.kill()
    process.join()
    if not was_alive and process.exitcode:
        sys.exit(f"the search ended with code {process.exitcode}")
    return was_alive


def found(folder):
    state = json.loads((folder / "trials" / "oracle.json").read_text())
    trials = [(r.trial, r.status, r.values, r.score) for r in read_results(folder)]
    assert sorted(state["end_order"]) == sorted(trial for trial, *_ in trials), "a trial was lost, or ended twice"
    return trials


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--tuner", nargs="+", default=["random", "bayesian", "hyperband", "grid"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    for tuner in options.tuner:
        with tempfile.TemporaryDirectory() as folder:
            whole, killed = Path(folder) / "whole", Path(folder) / "killed"
            began = time.monotonic()
            attempt(whole, tuner, options.trials)
            seconds, kills = time.monotonic() - began, 0
            while kills < options.kills and attempt(killed, tuner, options.trials, draw.uniform(0, seconds)):
                kills += 1
            attempt(killed, tuner, options.trials)
            assert found(killed) == found(whole), (found(killed), found(whole))
        print(f"{tuner}: killed {kills} times in {options.trials} trials, the same trials and scores", flush=True)


if __name__ == "__main__":
    main()
