"""What a second worker saves a search: `python tests/benchmarks/search_workers.py`.

The same search of small models of the digits, by one worker on one core and by two on a core each, in turns, chief and
start of all processes included; the median of the ratios is printed. Where the machine has not two free cores it says
more of them than of the workers.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
SPACE = {
    "num_latents": [4, 8, 16],
    "num_self_attention_heads": [2, 4],
    "self_attention_head_dim": [8, 16],
    "num_cross_attends": [1],
    "blocks_per_cross_attend": [1],
    "num_self_attention_layers": [1, 2],
    "learning_rate": {"min": 1e-3, "max": 1e-2, "sampling": "log"},
}


def search(folder, workers, trials, epochs, cores):
    """Seconds of a search by so many workers on so many cores, and how many trials it had."""
    (folder / "space.json").write_text(json.dumps(SPACE))
    output = folder / str(workers)
    command = [sys.executable, "-m", "tuning", "digits", "--space", str(folder / "space.json"), "--output", str(output)]
    command += [f"--{name}={value}" for name, value in (("trials", trials), ("epochs", epochs), ("workers", workers))]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    began = time.perf_counter()
    subprocess.run(
        command,
        check=True,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores[:workers]),
    )
    seconds = time.perf_counter() - began
    return seconds, len((output / "trials.csv").read_text().splitlines()) - 1


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    cores, times = sorted(os.sched_getaffinity(0)), {1: [], 2: []}
    for number in range(options.rounds):
        for workers in times:
            with tempfile.TemporaryDirectory() as folder:
                seconds, trials = search(Path(folder), workers, options.trials, options.epochs, cores)
            times[workers].append(seconds)
            print(f"round {number + 1}, {workers} of them: {seconds:.1f} s for {trials} trials", flush=True)
    ratio = statistics.median(two / one for one, two in zip(*times.values(), strict=True))
    print(f"two workers take {ratio:.2f} times as long as one")


if __name__ == "__main__":
    main()
