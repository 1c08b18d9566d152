"""Feeds broken files to their readers: `python tests/fuzz.py --mutants 2000`.

Valid files of every format are mutated by bit flips, truncation and insertion, in the same way every time. Each mutant
must end in an example or in an `InputError`; any other exception ends the programme. It prints what became of them, and
the most processor time that one took, and the most memory that this process had meanwhile, above what it had before.
"""

import argparse
import functools
import time

import fuzz_audio
import fuzz_audio_video
import fuzz_film
import fuzz_images
import fuzz_points
import fuzz_video
import numpy as np

from keras_perceiver.training.memory import PeakMemory

# name: (content, function of a mutant that returns what became of it)
FILES = {
    name: (content, kind.outcome)
    for kind in (fuzz_images, fuzz_audio, fuzz_video, fuzz_film, fuzz_audio_video)
    for name, content in kind.valid_files().items()
}
FILES |= {
    f"sound of {name}": (content, fuzz_audio_video.outcome_of_sound)
    for name, content in fuzz_audio_video.valid_files().items()
}
FILES |= {
    name: (content, functools.partial(fuzz_points.outcome, extension=extension))
    for name, (content, extension) in fuzz_points.valid_files().items()
}


def mutants(content, count, seed):
    """Yields `count` mutants of a file: flipped bits, mostly near its beginning, a cut, or bytes put in."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        data = bytearray(content)
        kind = rng.integers(4)
        if kind < 2:
            reach = min(len(data), 200) if kind else len(data)
            for place in rng.integers(0, reach, rng.integers(1, 9)):
                data[place] ^= 1 << rng.integers(8)
        elif kind == 2:
            del data[rng.integers(len(data)) :]
        else:
            place = rng.integers(len(data))
            data[place:place] = rng.bytes(rng.integers(1, 65))
        yield bytes(data)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=100, help="of each file")
    arguments = parser.parse_args(arguments)
    print(f"{'':18} {'read':>7} {'refused':>8} {'slowest s':>10} {'peak MB':>8}")
    for number, (name, (content, outcome)) in enumerate(FILES.items()):
        refused, slowest = 0, 0.0
        memory = PeakMemory()
        for mutant in mutants(content, arguments.mutants, number):
            began = time.process_time()
            refused += outcome(mutant) == "refused"
            slowest = max(slowest, time.process_time() - began)
        peak = memory.measure() / 2**20
        print(f"{name:24} {arguments.mutants - refused:7,} {refused:8,} {slowest:10.2f} {peak:8,.0f}", flush=True)


if __name__ == "__main__":
    main()
