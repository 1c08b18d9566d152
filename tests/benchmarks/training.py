"""What checkpoints cost, and whether memory stays the same: `python tests/benchmarks/training.py`.

Trains a Perceiver on noise for many steps, with the checkpoints that a run takes by itself, and prints how long they
took together, how large one is, and the memory of the process at every tenth of the way.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from measuring import resident_bytes

from keras_perceiver.data import Source, Split
from keras_perceiver.models import PRESETS, build_preset
from keras_perceiver.training import RECIPES, Checkpoints, keep_freed_memory
from keras_perceiver.training.train import fit

PARTS = 10


class Measured(Checkpoints):
    """Checkpoints that know how long they took, and look at the memory."""

    def __init__(self, folder, num_steps, **settings):
        super().__init__(folder, **settings)
        self.num_steps = num_steps
        self.seconds, self.steps, self.memory = [], 0, []

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.began = None

    def on_train_batch_end(self, batch, logs=None):
        self.began = self.began or time.perf_counter()  # behind the first step, which is compiled
        super().on_train_batch_end(batch, logs)
        self.steps += 1
        if self.steps % (self.num_steps // PARTS) == 0:
            self.memory.append(resident_bytes())

    def _save(self, position):
        start = time.perf_counter()
        super()._save(position)
        self.seconds.append(time.perf_counter() - start)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every-steps", type=int, default=None, help="none: as often as a run takes them by itself")
    parser.add_argument("--no-jit", action="store_true")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    shape = PRESETS["digits"]["input_shape"]
    examples = np.random.default_rng(0).integers(0, 256, (options.steps, *shape)).astype(np.uint8)
    split = Split(examples, np.arange(len(examples), dtype=np.int32) % 10)
    held = Split(examples[:2], split.labels[:2])
    source = Source("noise", "image", tuple("0123456789"), {"train": split, "validation": held}, preset="digits")
    recipe = RECIPES["digits"].replaced(epochs=2, batch_size=2, jit_compile=not options.no_jit)
    model = build_preset("digits")
    recipe.compile(model, options.steps // 2)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        checkpoints = Measured(folder, options.steps, every_steps=options.every_steps)
        fit(model, source, recipe, 0, callbacks=[checkpoints])
        whole = time.perf_counter() - checkpoints.began
        size = max(path.stat().st_size for path in folder.glob("*.npz"))
    taken, each = len(checkpoints.seconds), np.median(checkpoints.seconds)
    print(f"{options.steps:,} steps in {whole:.1f} s")
    print(
        f"checkpoints: {taken} of {size / 1e6:.2f} MB, {each * 1e3:.0f} ms each, {sum(checkpoints.seconds) / whole:.2%}"
    )
    print("memory, MB: " + " ".join(f"{memory / 1e6:,.0f}" for memory in checkpoints.memory))
    growth = checkpoints.memory[-1] - checkpoints.memory[0]
    print(f"grown by {growth / 1e6:,.1f} MB from a tenth of the steps to the last")


if __name__ == "__main__":
    main()
