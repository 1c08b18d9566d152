"""The client of TensorFlow Serving, against a double: a loopback service on the real protos, which can fail.

No TensorFlow Serving runs here: what is tested is what the client sends, and what it does with answers and faults.
"""

import base64
import json
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from keras_perceiver._checks import InputError
from keras_perceiver.export import SavedClassifier, ServedModel, client

RNG = np.random.default_rng(0)


class Double(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers with `answer` of the inputs; first with `faults`, one a request."""

    def __init__(self):
        self.faults, self.requests, self.pause = [], [], 0.0

    def answer(self, inputs):
        rows = np.stack([np.asarray(x, np.float32).reshape(len(x), -1).sum(axis=1) for x in inputs.values()], axis=1)
        return {"logits": rows, "probabilities": rows / 2}

    def Predict(self, request, context):
        self.requests.append(request)
        time.sleep(self.pause)
        if self.faults:
            context.abort(self.faults.pop(0), "said the double")
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        response = predict_pb2.PredictResponse()
        for name, value in self.answer(inputs).items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response


@pytest.fixture
def double():
    made, server = Double(), grpc.server(futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(made, server)
    made.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield made
    server.stop(None).wait()


@pytest.fixture
def rest_double(double):
    """The same by REST, as the server's documents describe it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            double.requests.append((self.path, content))
            code = double.faults.pop(0) if double.faults else 200
            answer = {"error": "said the double"}
            if code == 200:
                answer = {"outputs": {name: x.tolist() for name, x in double.answer(content["inputs"]).items()}}
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    double.address = f"http://127.0.0.1:{server.server_address[1]}"
    yield double
    server.shutdown()
    server.server_close()
    thread.join()


def images(count):
    return {"image": RNG.uniform(0, 255, (count, 2, 3, 1)).astype(np.float32)}


@pytest.mark.parametrize("kind", ["double", "rest_double"])
def test_answers_come_back_in_order_over_several_batches(kind, request, monkeypatch):
    monkeypatch.setattr(client, "BATCH", 3)
    service, inputs = request.getfixturevalue(kind), images(7)
    answer = ServedModel(service.address, "animals").ask(inputs)
    np.testing.assert_allclose(answer["logits"], inputs["image"].sum(axis=(1, 2, 3), dtype=float)[:, None], rtol=1e-5)
    assert len(service.requests) == 3


def test_name_version_and_endpoint_are_those_asked_for(double):
    for version in (None, 3, "canary"):
        ServedModel(double.address, "animals", version=version).ask(images(1), "embed")
    specs = [request.model_spec for request in double.requests]
    assert {(spec.name, spec.signature_name) for spec in specs} == {("animals", "embed")}
    assert [spec.WhichOneof("version_choice") for spec in specs] == [None, "version", "version_label"]
    assert (specs[1].version.value, specs[2].version_label) == (3, "canary")


def test_rest_names_them_in_the_path_and_sends_files_as_base64(rest_double):
    rest_double.answer = lambda inputs: {"valid": np.ones(len(inputs["encoded"]), bool)}
    files = [b"\x00\xff", b"picture"]
    answer = ServedModel(rest_double.address, "animals", version=3).ask({"encoded": files}, "from_bytes")
    ServedModel(rest_double.address, "animals", version="stable").ask({"encoded": files})
    (path, content), (labelled, _) = rest_double.requests
    assert path == "/v1/models/animals/versions/3:predict"
    assert labelled == "/v1/models/animals/labels/stable:predict"
    assert content["signature_name"] == "from_bytes"
    assert [base64.b64decode(file["b64"]) for file in content["inputs"]["encoded"]] == files
    assert answer["valid"].all()


@pytest.mark.parametrize(
    ("kind", "fault"), [("double", grpc.StatusCode.UNAVAILABLE), ("rest_double", 503), ("rest_double", 429)]
)
def test_what_is_unavailable_is_asked_again_with_growing_waits(kind, fault, request, monkeypatch):
    waits = []
    monkeypatch.setattr(client.time, "sleep", waits.append)
    service = request.getfixturevalue(kind)
    service.faults += [fault] * 3
    assert ServedModel(service.address, "animals", attempts=4).ask(images(2))["logits"].shape == (2, 1)
    waits = [wait for wait in waits if wait]  # the double sleeps too, for no time
    assert len(waits) == 3
    assert 0.05 <= waits[0] <= 0.15
    assert 0.2 <= waits[2] <= 0.6
    service.faults += [fault] * 4
    with pytest.raises(InputError, match=r"4 attempts failed.*said the double"):
        ServedModel(service.address, "animals", attempts=4).ask(images(2))


@pytest.mark.parametrize(("kind", "fault"), [("double", grpc.StatusCode.NOT_FOUND), ("rest_double", 404)])
def test_what_is_refused_is_not_asked_again(kind, fault, request):
    service = request.getfixturevalue(kind)
    service.faults.append(fault)
    with pytest.raises(InputError, match=r"'animals'.*said the double"):
        ServedModel(service.address, "animals").ask(images(1))
    assert len(service.requests) == 1


def test_a_server_that_is_not_there_or_too_slow_is_said_within_the_deadline(double):
    began = time.monotonic()
    with pytest.raises(InputError, match="must be reachable"):
        ServedModel("127.0.0.1:1", "animals", timeout=1.0).ask(images(1))
    with pytest.raises(InputError, match="must be reachable"):
        ServedModel("http://127.0.0.1:1", "animals", timeout=1.0).ask(images(1))
    double.pause = 1.0
    with pytest.raises(InputError, match="DEADLINE_EXCEEDED"):
        ServedModel(double.address, "animals", timeout=0.2).ask(images(1))
    assert time.monotonic() - began < 10


def test_what_cannot_be_asked_is_refused_before_it_is_sent(double):
    for server in ("127.0.0.1", "ftp://127.0.0.1:80", "127.0.0.1:many", "http://127.0.0.1:80/v1"):
        with pytest.raises(InputError, match="`server` must be HOST:PORT"):
            ServedModel(server, "animals")
    model, spoilt = ServedModel(double.address, "animals"), images(2)
    spoilt["image"][1] = np.nan
    with pytest.raises(InputError, match="`image` must be finite"):
        model.ask(spoilt)
    with pytest.raises(InputError, match="at least 1"):
        model.ask(images(0))
    assert double.requests == []


def test_a_classifier_behind_a_server_gives_the_answers_of_the_one_on_the_shelf(double, exported):
    local = SavedClassifier(exported[1].folder)
    double.answer = local._ask
    pictures = RNG.uniform(0, 255, (3, *local.input_shape)).astype(np.float32)
    remote = SavedClassifier(exported[1].folder, server=double.address)
    np.testing.assert_array_equal(remote.probabilities(pictures), local.probabilities(pictures))
    assert double.requests[0].model_spec.name == "animals"
