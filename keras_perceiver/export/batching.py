"""How a server joins requests to batches, derived from what `benchmark` measured."""

import json
import math
from dataclasses import dataclass

from keras_perceiver._checks import InputError, require
from keras_perceiver.export.warm_up import BATCH_SIZES

LARGEST_REQUEST = BATCH_SIZES[-1]  # of examples, of the client and of the warm-up; a server refuses more than a batch
NEARLY = 0.95  # of the best throughput: a batch that reaches it is large enough
LONGEST_QUEUE = 1.0  # seconds of work that may wait; what comes then is told to come again, and the client does
MIN_WAIT, MAX_WAIT = 100, 10_000  # microseconds


@dataclass(frozen=True)
class Batching:
    """Parameters of the server's batching.

    No `allowed_batch_sizes`: the server would pad an empty batch from a row that it does not have, and end.
    """

    max_batch_size: int
    wait_microseconds: int
    queue: int
    threads: int
    source: str

    def text(self):
        """A text proto of TensorFlow Serving's `BatchingParameters`."""
        return (
            f"max_batch_size {{ value: {self.max_batch_size} }}\n"
            f"batch_timeout_micros {{ value: {self.wait_microseconds} }}\n"
            f"max_enqueued_batches {{ value: {self.queue} }}\n"
            f"num_batch_threads {{ value: {self.threads} }}\n"
        )


def derive_batching(timings, cpus, *, xla):
    """Parameters for a server of so many processors.

    - A batch is as large as the smallest that reaches 95 % of a model's best throughput, for the model that wants the
      largest; at least as large as a request of our client and of the warm-up, and no larger where XLA would compile
      for it when it is first asked.
    - A request waits for others at most half as long as it would take alone, where several models are served the
      quickest of them.
    - The queue holds work for a second.

    Args:
        timings: dictionaries with the fields of `Timing`, of SavedModels; none where nothing was measured.
        cpus: processors.
        xla: whether a model has an endpoint that XLA compiles, for the sizes of the warm-up.

    Returns:
        `Batching`.
    """
    size, wait, queue = LARGEST_REQUEST, 1000, 100
    for rows in _by_model(timings, cpus):
        best = max(row["examples_per_second"] for row in rows)
        enough = min(row["batch_size"] for row in rows if row["examples_per_second"] >= NEARLY * best)
        size = size if xla else max(size, enough)
    if timings:
        models = _by_model(timings, cpus)
        alone = min(rows[0]["median"] / rows[0]["batch_size"] for rows in models)  # of an example, in milliseconds
        slowest = max(size * rows[-1]["median"] / rows[-1]["batch_size"] for rows in models)  # of a whole batch
        wait = min(max(round(500 * alone), MIN_WAIT), MAX_WAIT)
        queue = max(cpus, math.floor(1000 * LONGEST_QUEUE / slowest))  # a batch was timed with all processors
    return Batching(size, wait, queue, cpus, "benchmark" if timings else "assumed, not measured")


def read_timings(path, names):
    """The timings of SavedModels in a file that `benchmark --json` printed, of the models with these names.

    Raises:
        InputError: where the file is not such a one, or holds none of them.
    """
    try:
        with open(path) as file:
            rows = json.load(file)
        known = [row for row in rows if row["runtime"].startswith("tensorflow ")]
        for row in known:
            legal = min(row["batch_size"], row["threads"], row["median"], row["examples_per_second"]) > 0
            require(legal, "Figures of a benchmark must be above 0", row=row)
        known = [row for row in known if names & set(str(row["model"]).replace("\\", "/").split("/")[-2:])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"`benchmark` must be a file that `keras-perceiver benchmark --json` printed. Received: "
            f"benchmark={str(path)!r}. {type(error).__name__}: {error}"
        ) from error
    require(
        bool(known),
        "`benchmark` must hold timings of a SavedModel of the shelf",
        benchmark=str(path),
        models=sorted(names),
    )
    return known


def _by_model(timings, cpus):
    """The rows of each model with as many threads as there are processors, or the next fewer; by batch size."""
    found = []
    for name in dict.fromkeys(row["model"] for row in timings):
        rows = [row for row in timings if row["model"] == name]
        fitting = [row["threads"] for row in rows if row["threads"] <= cpus]
        threads = max(fitting) if fitting else min(row["threads"] for row in rows)
        found.append(sorted((r for r in rows if r["threads"] == threads), key=lambda r: r["batch_size"]))
    return found
