"""What the benchmarks share: processes of their own, memory above the idle process, and Keras' backends.

With `KERAS_BACKEND=jax` or `torch` the same models run there, on a GPU where the backend sees one.
"""

import functools
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

MODES = {"tensorflow": ("ops", "XLA"), "jax": ("XLA",), "torch": ("ops",)}  # what a backend can run


def backend():
    """Name of Keras' backend, without importing Keras."""
    return os.environ.get("KERAS_BACKEND", "tensorflow")


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@functools.cache
def memory_module():
    """`keras_perceiver.training.memory` alone: with its package comes TensorFlow, which need not be there."""
    path = Path(__file__).parents[2] / "keras_perceiver" / "training" / "memory.py"
    spec = importlib.util.spec_from_file_location("memory", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def available_bytes():
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def in_own_process(script, settings):
    """What `script --measure SETTINGS` prints last, as JSON; None where it dies, short of memory say."""
    command = [sys.executable, script, "--measure", json.dumps(settings)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        print(f"died: {settings}\n{run.stderr[-500:]}", file=sys.stderr, flush=True)
        return None
    return json.loads(run.stdout.splitlines()[-1])


def timed(step, repeats, seconds, warm_up=1):
    """Times of `step()` and memory above that of the idle process, the first call apart; `step` waits for its result.

    As many calls as `repeats` after `warm_up`, fewer where they take more than `seconds` together. `peak_bytes` is of
    these calls, `first_peak_bytes` of the first, in which graphs are made and compiled.
    """
    memory, idle, times, first = memory_module().PeakMemory(), resident_bytes(), [], time.perf_counter()
    step()
    first = time.perf_counter() - first
    for _ in range(warm_up - 1):
        step()
    first_peak = memory.measure()
    memory.forget()
    while not times or (len(times) < repeats and sum(times) < seconds):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return {
        "seconds": statistics.median(times),
        "first_seconds": first,
        "peak_bytes": memory.measure(),
        "first_peak_bytes": first_peak,
        "idle_bytes": idle,
    }


def in_turns(runs, repeats):
    """Median seconds of each of `{key: function}`, taken in turns after a first call; each waits for its result."""
    seconds = {key: [] for key in runs}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for key, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[key].append(time.perf_counter() - start)
    return {key: statistics.median(values) for key, values in seconds.items()}


def wait(results):
    """Returns when a structure of tensors of Keras' backend has been computed."""
    import keras

    if backend() == "jax":
        import jax

        jax.block_until_ready(results)
    elif backend() == "tensorflow":
        import tensorflow as tf

        tf.test.experimental.sync_devices()
    else:
        keras.tree.flatten(results)[-1].flatten()[0].item()  # a copy of all would be timed too


def compiled(function, mode):
    """`function` of tensors as Keras' backend runs it: as a graph of operations, or compiled by XLA."""
    if backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=mode == "XLA", autograph=False)
    if backend() == "jax":
        import jax

        return jax.jit(function)
    return function


def gradients(loss, inputs, variables):
    """Gradients of `loss(*inputs)` with respect to the first input and to Keras' `variables`, on any backend."""
    if backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(inputs[0])
            value = loss(*inputs)
        return tape.gradient(value, [inputs[0], *(variable.value for variable in variables)])
    if backend() == "jax":
        return _jax_gradients(loss, inputs, variables)
    import torch

    first = inputs[0].detach().requires_grad_()
    return torch.autograd.grad(loss(first, *inputs[1:]), [first, *(variable.value for variable in variables)])


def _jax_gradients(loss, inputs, variables):
    import jax
    import keras

    def pure(first, values):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return loss(first, *inputs[1:])

    first, values = jax.grad(pure, argnums=(0, 1))(inputs[0], [variable.value for variable in variables])
    return [first, *values]
