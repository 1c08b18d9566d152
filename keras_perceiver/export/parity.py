"""The gate behind every export: it must answer as the live model does, in a process without this package."""

import atexit
import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow as tf

from keras_perceiver._checks import InputError
from keras_perceiver.export import fresh_process
from keras_perceiver.export.endpoints import LATENTS, XLA, read_clips
from keras_perceiver.export.fresh_process import C_API

BATCH_SIZES = (1, 2, 4)  # of the examples that are compared, one batch after the other
LARGE_BATCH_SIZES = (1, 2)  # of a model that is large
LIVE_BATCH = 32  # examples that the live model is given at once: bounds memory
REPORT = "parity.json"  # beside the artefact
# Latents may differ by so many times as much as what is made of their mean: of thousands of numbers the one that is
# rounded worst is looked at. Of two trained models it was off by 1.1e-5 and 1.2e-5, their logits by 2.7e-6 and 2.0e-6.
MORE_FOR_LATENTS = 10


class FreshProcess:
    """A process that runs artefacts of one format, `fresh_process`, and answers one request after the other."""

    _running: ClassVar[dict] = {}  # by format and threads: it takes seconds to start, and stays until Python ends

    def __init__(self, artefact_format):
        self._format = artefact_format
        self._one_at_a_time = threading.Lock()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the process)
        self._process = subprocess.Popen(
            [sys.executable, "-P", fresh_process.__file__, artefact_format],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"},
        )
        atexit.register(self.close)

    @classmethod
    def of(cls, artefact_format, threads=None):
        """The one of this format, and of these threads where its runtime sets them once; started where none runs."""
        process = cls._running.get((artefact_format, threads))
        if process is None or process._process.poll() is not None:
            process = cls._running[artefact_format, threads] = cls(artefact_format)
        return process

    def ask(self, folder, **request):
        """The answer to one request on the artefact in that folder.

        Raises:
            InputError: where the artefact cannot be loaded or run there.
        """
        with self.asking(folder, **request) as answer:
            return answer()

    @contextmanager
    def asking(self, folder, **request):
        """As `ask`: yields a function that waits for the answer, before which the block may do other things."""
        # The process stays in the folder in which it was started.
        said, has_answered = json.dumps({"folder": str(Path(folder).resolve()), **request}), False

        def answer():
            nonlocal has_answered
            line = self._process.stdout.readline()
            has_answered = True
            if not line:
                self._errors.seek(0)
                last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
                raise InputError(f"The process that runs exported models ended with {self._process.wait()}. {last}")
            found = json.loads(line)
            if "error" in found:
                what = "What was exported cannot be run without this package"
                what = "The model of the run cannot be run" if self._format == "live" else what
                raise InputError(f"{what}. {found['error']}")
            return found

        with self._one_at_a_time:
            try:
                with suppress(BrokenPipeError):  # it has ended, as `answer` says
                    print(said, file=self._process.stdin, flush=True)
                yield answer
            finally:
                if not has_answered:  # nobody waits for this answer any more, nor may it be taken for the next one's
                    self._process.kill()
                    self._process.wait()  # or `of` takes it for one that runs

    def close(self):
        """Ends the process."""
        atexit.unregister(self.close)
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def batch_sizes_of(served, endpoints):
    """`{endpoint of a SavedModel: sizes of the batches that are compared}`, by both loaders, see `fresh_process`.

    All endpoints run one function of the model. Where that takes long, Python's loader is asked for `serving_default`
    alone, and that of the C API for two examples of each of the others (of this one where there is no other): there
    the first answer of each endpoint takes as long as to optimise the whole graph.
    """
    if served.is_large:
        others = [name for name in endpoints if name != "serving_default"] or ["serving_default"]
        return {"serving_default": LARGE_BATCH_SIZES, **{name + C_API: LARGE_BATCH_SIZES[1:] for name in others}}
    return dict.fromkeys(endpoints, BATCH_SIZES) | {name + C_API: BATCH_SIZES for name in endpoints}


def compare(artefact_format, folder, served, examples, tolerance, batch_sizes):
    """Runs an artefact in a fresh process, and the live model meanwhile in this one, and compares their answers.

    Args:
        artefact_format: "saved_model" or "litert".
        folder: of the artefact.
        served: `Served`, the live model.
        examples: `{input: (n, ..)}` raw examples; `from_bytes` is asked about files that are made of them.
        tolerance: of the largest difference of an output, as a share of its largest value; latents have
            `MORE_FOR_LATENTS` times as much, probabilities what logits within it may make of them.
        batch_sizes: `{endpoint: sizes}`, one batch after the other, of the first examples.

    Returns:
        A report that JSON can hold, with `passed`, and the answers of both, `{endpoint: {output: (n, ..)}}`.
    """
    endpoints = dict.fromkeys(name.removesuffix(C_API) for name in batch_sizes)
    inputs = {name: {"encoded": served.files(examples)} if name == "from_bytes" else examples for name in endpoints}
    with _running(artefact_format, folder, inputs, batch_sizes) as ended:
        expected = expected_answers(served, inputs)
        runtime, answers = ended()
    found = {
        endpoint: {
            name: {
                **_difference(answers[endpoint].get(name), value[: sum(sizes)]),
                "tolerance": tolerance * _more_for(name, expected[endpoint.removesuffix(C_API)]),
            }
            for name, value in expected[endpoint.removesuffix(C_API)].items()
        }
        for endpoint, sizes in batch_sizes.items()
    }
    differences = [difference for outputs in found.values() for difference in outputs.values()]
    report = {
        "passed": all(one["relative"] <= one["tolerance"] for one in differences),  # NaN is not
        "batch_sizes": {endpoint: list(sizes) for endpoint, sizes in batch_sizes.items()},
        "runtime": runtime,
        "endpoints": found,
    }
    return report, answers, expected


def _more_for(name, outputs):
    """How many times the tolerance an output may differ by.

    Where logits differ by d, probabilities do by at most 2·d of the largest: those of a model that is sure of its
    classes, with logits of 20, by 40 times as large a share as its logits.
    """
    if name in LATENTS:
        return MORE_FOR_LATENTS
    return max(1.0, 2 * float(np.abs(outputs["logits"]).max())) if name == "probabilities" else 1


@contextmanager
def _running(artefact_format, folder, inputs, batch_sizes):
    """Has an artefact run; yields a function that waits for `(runtime, {endpoint: {output: (n, ..)}})`."""
    with tempfile.TemporaryDirectory() as scratch:
        path, outputs = Path(scratch) / "inputs.npz", Path(scratch) / "outputs.npz"
        write_inputs(path, {endpoint: inputs[endpoint.removesuffix(C_API)] for endpoint in batch_sizes})
        process, said = FreshProcess.of(artefact_format), {"inputs": str(path), "outputs": str(outputs)}
        with process.asking(folder, endpoints=list(batch_sizes), batch_sizes=batch_sizes, **said) as answer:

            def ended():
                runtime, answers = answer()["runtime"], {}
                with np.load(outputs, allow_pickle=False) as file:
                    for key in file.files:
                        endpoint, name = key.split("/")
                        answers.setdefault(endpoint, {})[name] = file[key]
                return runtime, answers

            yield ended


def expected_answers(served, inputs):
    """What the live model answers to `{endpoint: inputs}`: `{endpoint: {output: (n, ..)}}`.

    Files are read for it by the reader that `predict` has. Where they hold the very numbers of the examples, the model
    is not asked again.
    """
    answers, examples = {}, inputs["serving_default"]
    forward = served.forward
    if served.is_large:  # operators one by one take ten times as long as in a graph
        forward = tf.function(forward, autograph=False)
    with tf.device("CPU"):  # a graphics card may multiply in fewer digits
        live = _in_parts(forward, examples)
        answers["serving_default"] = _with_probabilities(served, live["logits"])
        if XLA in inputs:
            answers[XLA] = answers["serving_default"]
        if "embed" in inputs:
            answers["embed"] = {name: live[name] for name in LATENTS}
        if "from_bytes" in inputs:
            files = inputs["from_bytes"]["encoded"]
            clips = [read_clips(served.kind, served.shape, file) for file in files]
            counts = [len(next(iter(clip.values()))) for clip in clips]
            whole = {name: np.concatenate([clip[name] for clip in clips]) for name in served.inputs}
            is_same = all(np.array_equal(whole[name], examples[name]) for name in served.inputs)
            logits = (live if is_same else _in_parts(forward, whole))["logits"]
            means = np.stack([part.mean(axis=0) for part in np.split(logits, np.cumsum(counts)[:-1])])
            answers["from_bytes"] = {**_with_probabilities(served, means), "valid": np.ones(len(files), bool)}
    return answers


def require_parity(report, what):
    """An `InputError` with the figures, unless the report of `compare` says that all is well."""
    if report["passed"]:
        return
    figures = "; ".join(
        f"{endpoint} {name} {difference['relative']:.1e} of {difference['tolerance']:.0e}"
        for endpoint, outputs in report["endpoints"].items()
        for name, difference in outputs.items()
    )
    raise InputError(
        f"{what} must answer as the live model does, and was removed. Largest differences, as shares of the largest "
        f"value, and what they may be: {figures}."
    )


def write_inputs(path, inputs):
    """Writes `{endpoint: {input: array or list of bytes}}` for `fresh_process.read_inputs`."""
    arrays = {}
    for endpoint, values in inputs.items():
        for name, value in values.items():
            if name == "encoded":
                arrays[f"{endpoint}/lengths"] = np.array([len(file) for file in value])
                value = np.frombuffer(b"".join(value), np.uint8)
            arrays[f"{endpoint}/{name}"] = np.asarray(value)
    np.savez(path, **arrays)


def _in_parts(forward, examples):
    """`forward` of any number of examples: `{output: (n, ..)}`."""
    count = len(next(iter(examples.values())))
    parts = [
        forward({name: tf.constant(x[start : start + LIVE_BATCH]) for name, x in examples.items()})
        for start in range(0, count, LIVE_BATCH)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _with_probabilities(served, logits):
    return {"logits": logits, "probabilities": served.probabilities(logits).numpy()}


def _difference(value, expected):
    """The largest difference of two arrays, and as a share of the largest expected value."""
    if value is None or value.shape != expected.shape:
        return {"largest_difference": float("inf"), "largest_value": 0.0, "relative": float("inf")}
    value, expected = value.astype(np.float64), expected.astype(np.float64)
    difference, largest = np.abs(value - expected).max(), np.abs(expected).max()
    relative = difference / max(largest, np.finfo(np.float32).tiny)
    return {"largest_difference": float(difference), "largest_value": float(largest), "relative": float(relative)}
