"""Kills a search at random moments, goes on, and compares with one that nobody killed: `python tests/kill_search.py`.

Every attempt is a process of its own, forked from one that has imported Keras and done nothing with it, and ends by
SIGKILL. Moments are drawn over all of the work: so many trials must have ended, and so much of the next one be done;
the search is killed there while a trial is left, as often as it was asked to. In the end the trials must be those of
the search that was left alone: the same points and scores, in the same order, none lost and none twice.
"""

import argparse
import itertools
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

from tuning import tuner as tuner_module
from tuning.results import read_results
from tuning.search import search

SPACE = {"num_latents": [2, 3, 5], "learning_rate": {"min": 1e-3, "max": 1e-2, "sampling": "log"}, "batch_size": [256]}
MOST_MISSES = 5  # searches that ended before the last kill, as the last trial may be faster than all before


def run(folder, tuner, trials):
    tuner_module.LATENCY_SECONDS = 0.05  # so that most of a trial is its training
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


def start(folder, tuner, trials):
    """A process that goes on with a search."""
    process = multiprocessing.get_context("fork").Process(target=run, args=(folder, tuner, trials))
    process.start()
    return process


def finish(process):
    """Waits for the end of a search."""
    process.join()
    if process.exitcode:
        sys.exit(f"the search ended with code {process.exitcode}")


def kill(process, folder, trials, ended, seconds):
    """Kills a search so many seconds behind so many trials; returns whether one was left."""
    while process.is_alive() and number(folder, "end_order") < ended:
        time.sleep(0.02)
    process.join(seconds)
    was_killed = process.is_alive() and number(folder, "end_order") < trials
    process.kill()
    process.join()
    if process.exitcode > 0:
        sys.exit(f"the search ended with code {process.exitcode}")
    return was_killed


def number(folder, kind):
    """How many trials have begun or ended: the length of `start_order` or `end_order` of KerasTuner's state."""
    path = folder / "trials" / "oracle.json"
    return len(json.loads(path.read_text())[kind]) if path.is_file() else 0


def seconds_of(folder, tuner, trials):
    """Runs a search to its end: the seconds until its first trial begins, and those of each trial."""
    process, times = start(folder, tuner, trials), [time.monotonic()]
    for ended in range(-1, trials):
        kind, least = ("start_order", 1) if ended < 0 else ("end_order", ended + 1)
        while process.is_alive() and number(folder, kind) < least:
            time.sleep(0.02)
        times.append(time.monotonic())
    finish(process)
    until_first, *of_each = (end - begin for begin, end in itertools.pairwise(times))
    return until_first, of_each


def killed(folder, tuner, trials, kills, draw, until_first, of_each):
    """Whether a search was killed so often before it had ended; then it has ended since."""
    done = 0
    for moment in sorted(draw.uniform(0, trials) for _ in range(kills)):
        process = start(folder, tuner, trials)
        # The trial that was begun begins again.
        ended = max(int(moment), number(folder, "end_order"))
        behind = until_first if ended == number(folder, "end_order") else 0.0
        seconds = behind + (moment % 1) * of_each[min(ended, trials - 1)]
        done += kill(process, folder, trials, ended, seconds)
    finish(start(folder, tuner, trials))
    return done == kills


def found(folder):
    state = json.loads((folder / "trials" / "oracle.json").read_text())
    trials = [(r.trial, r.status, r.values, r.score) for r in read_results(folder)]
    assert sorted(state["end_order"]) == sorted(trial for trial, *_ in trials), "a trial was lost, or ended twice"
    return trials


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--tuner", nargs="+", default=["random", "bayesian", "hyperband", "grid"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    for tuner in options.tuner:
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / "whole"
            seconds = seconds_of(whole, tuner, options.trials)
            for attempt in range(1 + MOST_MISSES):
                again = Path(folder) / f"killed{attempt}"
                was_killed = killed(again, tuner, options.trials, options.kills, draw, *seconds)
                if found(again) != found(whole):
                    sys.exit(f"{tuner}: {found(again)} is not {found(whole)}")
                if was_killed:
                    break
            else:
                sys.exit(f"{tuner}: the search has always ended before kill {options.kills}: ask for more --trials")
        said = f"{tuner}: killed {options.kills} times in {options.trials} trials, the same trials and scores"
        print(said, flush=True)


if __name__ == "__main__":
    main()
