"""Runs a model and nothing else, in a process of its own: the other half of `parity`.

Started by its path. For an export it imports NumPy and one runtime; this package and Keras (and, beside LiteRT,
TensorFlow) cannot be imported here then, so that an artefact which needs them fails. A request is a line of JSON on
stdin, an answer one on stdout.
"""

import importlib.util
import json
import os
import sys
import time

import numpy as np

FORBIDDEN = {
    "saved_model": ("keras_perceiver", "keras"),
    "litert": ("keras_perceiver", "keras", "tensorflow"),
    "live": (),  # the model of a run, which needs them
}
C_API = " by the C API"  # behind the name of an endpoint of a SavedModel: loaded and run as a server does


def saved_model(folder, threads):
    """`endpoint -> function of {input: array}` of a SavedModel; the number of threads is set once a process."""
    tf = _tensorflow(threads)
    loaded = tf.saved_model.load(folder)
    sessions = []  # one, where an endpoint is asked for by the C API

    def endpoint(name):
        if name.endswith(C_API):
            sessions[:] = sessions or [_server_session(folder)]
            return sessions[0].endpoint(name.removesuffix(C_API))
        function = loaded.signatures[name]
        specs = function.structured_input_signature[1]

        def run(inputs):
            tensors = {key: tf.constant(value, specs[key].dtype) for key, value in inputs.items()}
            return {key: value.numpy() for key, value in function(**tensors).items()}

        run._loaded = loaded  # kept alive: a signature holds its variables weakly
        return run

    return endpoint, f"tensorflow {tf.__version__}"


def live(folder, threads):
    """The same of the model of a run, whose one endpoint is as the `serving_default` of its export."""
    tf = _tensorflow(threads)
    from keras_perceiver.export.benchmark import served_by

    forward = tf.function(served_by(folder).forward, autograph=False)

    def run(inputs):
        return {"logits": forward({name: tf.constant(value) for name, value in inputs.items()})["logits"].numpy()}

    return lambda name: run, f"live in float32, tensorflow {tf.__version__}"


def _tensorflow(threads):
    """The module, with that number of threads, which can be set before anything is computed; None to leave it."""
    import tensorflow as tf

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


def _server_session(folder):
    """`ServerSession`, from the file beside this one."""
    path = os.path.join(os.path.dirname(__file__), "server_session.py")
    spec = importlib.util.spec_from_file_location("server_session", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ServerSession(folder)


def litert(folder, threads):
    """The same of a LiteRT file."""
    import ai_edge_litert
    from ai_edge_litert.interpreter import Interpreter

    of_all = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    interpreter = Interpreter(model_path=os.path.join(folder, "model.tflite"), num_threads=threads or of_all)

    def endpoint(name):
        runner = interpreter.get_signature_runner(name)
        return lambda inputs: runner(**inputs)

    return endpoint, f"ai_edge_litert {getattr(ai_edge_litert, '__version__', '')}".strip()


def rows(run, inputs, batch_sizes):
    """The answers to examples in batches of these sizes, one after the other: `{output: (n, ..)}`."""
    answers, start = [], 0
    for size in batch_sizes:
        answers.append(run({name: values[start : start + size] for name, values in inputs.items()}))
        start += size
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def milliseconds(run, inputs, batch_size, seconds):
    """Times of calls with one batch, for so many seconds and at least ten, after two that are not counted.

    A call of more than a second is timed at least once, after one that is not counted.
    """
    batch = {name: values[:batch_size] for name, values in inputs.items()}

    def timed():
        before = time.perf_counter()
        run(batch)
        return 1000 * (time.perf_counter() - before)

    timed()  # the first one prepares what the others find
    end = time.perf_counter() + seconds
    second = timed()
    times, least = ([second], 1) if second > 1000 else ([], 10)
    while len(times) < least or time.perf_counter() < end:
        times.append(timed())
    return times


def read_inputs(path):
    """`{endpoint: {input: array}}` of `parity.write_inputs`; files lie in it one after the other."""
    inputs = {}
    with np.load(path, allow_pickle=False) as file:
        for key in file.files:
            endpoint, name = key.split("/")
            values = file[key]
            if name == "lengths":
                continue
            if name == "encoded":
                ends = np.cumsum(file[f"{endpoint}/lengths"])
                values = [part.tobytes() for part in np.split(values, ends[:-1])]
            inputs.setdefault(endpoint, {})[name] = values
    return inputs


def answer(formats, request):
    """The answer to one request: rows of every endpoint, or times of one."""
    endpoint, runtime = formats(request["folder"], request.get("threads"))
    inputs = read_inputs(request["inputs"])
    if "outputs" in request:
        outputs = {}
        for name in request["endpoints"]:
            for key, value in rows(endpoint(name), inputs[name], request["batch_sizes"][name]).items():
                outputs[f"{name}/{key}"] = value
        np.savez(request["outputs"], **outputs)
        return {"runtime": runtime}
    run = endpoint(request["endpoints"][0])
    batches = {}
    for size in request["batch_sizes"]:
        batches[size] = milliseconds(run, inputs[request["endpoints"][0]], size, request["seconds"])
    return {"runtime": runtime, "milliseconds": batches}


def main():
    """Answers requests until stdin ends."""
    formats = {"saved_model": saved_model, "litert": litert, "live": live}[sys.argv[1]]
    for name in FORBIDDEN[sys.argv[1]]:
        sys.modules[name] = None
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    if formats is saved_model:
        import tensorflow  # noqa: F401  (seconds, while the parent still writes the artefact)
    for line in sys.stdin:
        try:
            said = answer(formats, json.loads(line))
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), file=answers, flush=True)


if __name__ == "__main__":
    main()
