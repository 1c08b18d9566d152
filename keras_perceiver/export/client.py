"""Asks a model that TensorFlow Serving serves, by gRPC or REST."""

import base64
import functools
import http.client
import json
import random
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_perceiver._checks import InputError, require, require_above, require_positive
from keras_perceiver.export.batching import LARGEST_REQUEST
from keras_perceiver.export.deadline import urlopen
from keras_perceiver.export.shelf import VERSION, check_name

BATCH = LARGEST_REQUEST  # examples a request
SCHEMES = ("grpc", "grpcs", "http", "https")
PASSING = {"UNAVAILABLE": 503, "RESOURCE_EXHAUSTED": 429}  # by name, and as REST has it
UNLIKE = "from different tasks have different shapes"  # is said to all requests of a batch in which one differs
LABEL = r"(?!-?[0-9]+$)[A-Za-z0-9_-]+"  # of a version; no number
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0  # seconds before a request is tried again, doubled each time


class Unavailable(Exception):
    """A server that may answer another time: not there, overloaded, or with requests in one batch that do not fit."""


class ServedModel:
    """A model behind a server; several threads may ask it at once.

    A request that fails because the server is not available, or has joined it to one of another shape, is sent again,
    up to `attempts` times and as long as `timeout` leaves time, after waits that double and vary. Nothing else is sent
    twice.

    Args:
        server: "HOST:PORT" for gRPC (8500 is usual), "grpcs://HOST:PORT" for gRPC with TLS, "http://HOST:PORT" for REST
            (8501) or "https://HOST:PORT" for REST with TLS.
        name: of the model, as on the shelf.
        version: a number, the label of a version, or None for what the server takes: its highest version, which need
            not be the stable one.
        timeout: seconds for one request, with all its attempts.
        attempts: at least one.
        certificates: path of a PEM file of the authorities that TLS trusts; None for those of gRPC or of the system.

    Raises:
        InputError: where an argument is illegal, or gRPC is asked for and the package of the protos is not installed.
    """

    def __init__(self, server, name, *, version=None, timeout=10.0, attempts=4, certificates=None):
        require_above(0, timeout=timeout)
        require_positive(attempts=attempts)
        url = _address(server)
        require(url is not None, "`server` must be HOST:PORT for gRPC, or http://HOST:PORT for REST", server=server)
        check_name(name)
        is_number = re.fullmatch(VERSION, str(version)) is not None
        legal = version is None or is_number or re.fullmatch(LABEL, str(version)) is not None
        require(
            legal,
            "`version` must be a number of up to 18 digits, or a label of letters, digits, '_' and '-'",
            version=version,
        )
        is_private = url.scheme in ("grpcs", "https")
        rule = "`certificates` are for TLS: `server` must be grpcs://HOST:PORT or https://HOST:PORT"
        require(certificates is None or is_private, rule, server=server, certificates=certificates)
        version = int(version) if is_number else version
        roots = None if certificates is None else _certificates(certificates)
        self.server, self.name, self.version = server, name, version
        self.timeout, self.attempts = timeout, attempts
        ask = (_grpc if url.scheme.startswith("grpc") else _rest)(url, name, version, roots)
        self._ask = functools.partial(_in_time, ask, url, timeout)

    def ask(self, inputs, signature="serving_default"):
        """Sends inputs in batches of `BATCH` and joins the answers.

        Args:
            inputs: `{input: (n, ..) array, or a list of n bytes}`, with n of at least 1; arrays must be finite.
            signature: the endpoint.

        Returns:
            `{output: (n, ..) array}`.

        Raises:
            InputError: where an array is not finite, the server cannot be reached in time, refuses, with its reason, or
                answers for another model or with another number of rows.
        """
        inputs = {name: _rows(value) for name, value in inputs.items()}
        counts = {len(value) for value in inputs.values()}
        require(
            len(counts) == 1 and min(counts) > 0, "Inputs must have one length, of at least 1", lengths=sorted(counts)
        )
        for name, value in inputs.items():
            is_array = isinstance(value, np.ndarray) and value.dtype.kind == "f"
            finite = not is_array or bool(np.isfinite(value).all())
            require(finite, f"The input `{name}` must be finite: no NaN and no infinity")
        answers, like = [], None
        for start in range(0, counts.pop(), BATCH):
            some = {name: value[start : start + BATCH] for name, value in inputs.items()}
            answer, rows = self._patiently(some, signature), len(next(iter(some.values())))
            shapes = {key: value.shape for key, value in answer.items()}
            legal = bool(shapes) and all(shape[:1] == (rows,) for shape in shapes.values())
            rule = f"The server {self.server!r} must answer with a row for each of {rows} examples"
            require(legal, rule, shapes=shapes)
            rest = {key: shape[1:] for key, shape in shapes.items()}
            like = like or rest
            rule = f"The server {self.server!r} must answer alike all the time; did it load another version meanwhile?"
            require(rest == like, rule, first=like, now=rest, repair="Name a version, or its label, and ask again.")
            answers.append(answer)
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def _patiently(self, inputs, signature):
        until, wait = time.monotonic() + self.timeout, FIRST_WAIT
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._ask(inputs, signature, max(until - time.monotonic(), 0.001))
            except Unavailable as error:
                pause = wait * random.uniform(0.5, 1.5)
                if attempt == self.attempts or time.monotonic() + pause >= until:
                    raise InputError(
                        f"The server {self.server!r} must be reachable and have the model {self.name!r} loaded; "
                        f"{attempt} attempt{'' if attempt == 1 else 's'} failed. {error}"
                    ) from error
                time.sleep(pause)
                wait = min(2 * wait, LONGEST_WAIT)


def _rows(value):
    """Files as they are, anything else as an array."""
    is_files = isinstance(value, (list, tuple)) and all(isinstance(file, bytes) for file in value)
    return value if is_files else np.asarray(value)


def _address(server):
    """The parts of an address with a scheme, a host and a port; None where it is something else."""
    try:
        url = urllib.parse.urlsplit(server if "//" in server else f"grpc://{server}")
        legal = url.scheme in SCHEMES and bool(url.hostname) and url.port is not None and url.path in ("", "/")
    except ValueError:  # of a port or an IPv6 address that is none
        return None
    return url if legal else None


def _certificates(path):
    """The content of a PEM file."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"`certificates` must be a file that can be read. {error}") from error
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError) as error:  # a ValueError where there is nothing in it
        raise InputError(
            f"`certificates` must be a PEM file of certificates. {error} Received: certificates={str(path)!r}."
        ) from error
    return content


def _whole(answer):
    """The bytes of an answer, however many its header promises."""
    content = b"".join(iter(lambda: answer.read1(2**16), b""))
    if answer.length:  # what is still missing
        raise http.client.IncompleteRead(content, answer.length)
    return content


def _in_time(ask, url, timeout, inputs, signature, seconds):
    """`ask` of these, within what is left of `timeout`."""
    try:
        return ask(inputs, signature, seconds)
    except TimeoutError as error:
        raise InputError(
            f"The server at {url.netloc} must answer in time. {error} Give it longer with `timeout`, or `--timeout`. "
            f"Received: timeout={timeout:g}."
        ) from error


def _grpc(url, name, version, roots):
    """A function of (inputs, signature, seconds) that asks by gRPC."""
    try:
        import grpc
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
    except ImportError as error:
        raise InputError(
            "gRPC needs the protos of TensorFlow Serving. `pip install keras-perceiver[serving]` brings them; "
            "`--server http://HOST:8501` does without."
        ) from error
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.initial_reconnect_backoff_ms", round(1000 * FIRST_WAIT)),  # or attempts of ours meet no attempt of its
    ]
    if url.scheme == "grpcs":
        channel = grpc.secure_channel(f"{host}:{url.port}", grpc.ssl_channel_credentials(roots), options)
    else:
        channel = grpc.insecure_channel(f"{host}:{url.port}", options)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def ask(inputs, signature, seconds):
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = name, signature
        if isinstance(version, int):
            request.model_spec.version.value = version
        elif version is not None:
            request.model_spec.version_label = version
        for key, value in inputs.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        try:
            answer = stub.Predict(request, timeout=seconds)
        except grpc.RpcError as error:
            said = f"{error.code().name}: {error.details()}"
            if error.code().name in PASSING or UNLIKE in said:
                raise Unavailable(said) from error
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError(said) from error
            raise InputError(f"The server at {url.netloc} did not answer for the model {name!r}. {said}") from error
        found = answer.model_spec.name or name
        require(found == name, f"The server at {url.netloc} must answer for the model {name!r}", model=found)
        try:
            return {key: tf.make_ndarray(tensor) for key, tensor in answer.outputs.items()}
        except (TypeError, ValueError) as error:
            raise InputError(f"The server at {url.netloc} must answer with arrays. {error}") from error

    return ask


def _rest(url, name, version, roots):
    """The same by REST; numbers travel as text, in all their digits."""
    part = "" if version is None else f"/{'versions' if isinstance(version, int) else 'labels'}/{version}"
    address = f"{url.scheme}://{url.netloc}/v1/models/{name}{part}:predict"
    context = ssl.create_default_context(cadata=roots and roots.decode("ascii", "replace"))

    def plain(value):
        if isinstance(value, np.ndarray):
            return value.tolist()
        return [{"b64": base64.b64encode(file).decode()} for file in value]

    def ask(inputs, signature, seconds):
        until = time.monotonic() + seconds
        content = {"signature_name": signature, "inputs": {key: plain(value) for key, value in inputs.items()}}
        request = urllib.request.Request(
            address, json.dumps(content).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urlopen(request, until, context) as answer:
                outputs = json.loads(_whole(answer))["outputs"]
        except urllib.error.HTTPError as error:
            with error:
                try:
                    said = f"{error.code}: {error.read1(1000).decode(errors='replace')}"
                except (OSError, http.client.HTTPException) as other:
                    said = f"{error.code}: {other}"
            if error.code in PASSING.values() or UNLIKE in said:
                raise Unavailable(said) from error
            raise InputError(f"The server at {url.netloc} did not answer for the model {name!r}. {said}") from error
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            if isinstance(getattr(error, "reason", None), TimeoutError):
                raise TimeoutError("It was not reached, or did not take the request.") from error
            raise Unavailable(str(error)) from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"The server at {url.netloc} must answer as TensorFlow Serving does. {error!r}") from error
        try:
            return {key: np.asarray(value) for key, value in outputs.items()}
        except (ValueError, AttributeError) as error:  # rows of different length
            raise InputError(f"The server at {url.netloc} must answer with arrays. {error}") from error

    return ask
