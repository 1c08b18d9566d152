"""The SavedModel of the small classifier, for all tests that only look at it, and doubles of what serves it."""

import json
import socket
import threading
import time
import types
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from keras_perceiver.export import export_saved_model
from tests.small_classifier import NAMES, small_classifier


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """(model, `Export`) of a SavedModel with provenance; not to be changed."""
    model = small_classifier()
    provenance = {"data": "zoo", "metrics": {"accuracy": 0.75}, "configuration": {"seed": 7}, "licence": "CC0"}
    shelf = tmp_path_factory.mktemp("shelf")
    return model, export_saved_model(model, "animals", NAMES, shelf=shelf, provenance=provenance)


@pytest.fixture
def rest_status():
    """A double of the server's REST: knows all paths but those that are `missing`, and keeps what was asked."""
    found = types.SimpleNamespace(missing=set(), asked=[])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found.asked.append(self.path)
            content = b'{"error": "Servable not found"}' if self.path in found.missing else b"{}"
            self.send_response(404 if self.path in found.missing else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.port = server.server_address[1]
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


class Double(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers with `answer` of the inputs; first with `faults`, one a request."""

    def __init__(self):
        self.faults, self.requests, self.pause, self.name, self.says = [], [], 0.0, None, "said the double"

    def answer(self, inputs):
        rows = np.stack([np.asarray(x, np.float32).reshape(len(x), -1).sum(axis=1) for x in inputs.values()], axis=1)
        return {"logits": rows, "probabilities": rows / 2}

    def Predict(self, request, context):
        self.requests.append(request)
        time.sleep(self.pause)
        if self.faults:
            context.abort(self.faults.pop(0), self.says)
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        response = predict_pb2.PredictResponse()
        response.model_spec.name = self.name or request.model_spec.name
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
            time.sleep(double.pause)
            code = double.faults.pop(0) if double.faults else 200
            answer = {"error": double.says}
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
    double.address, double.rest = f"http://127.0.0.1:{server.server_address[1]}", server
    yield double
    server.shutdown()
    server.server_close()
    thread.join()


def trickle(connection, answer, pause):
    """Sends an answer byte by byte; how many were sent before the other end was closed."""
    for i in range(len(answer)):
        try:
            connection.sendall(answer[i : i + 1])
        except OSError:
            return i
        time.sleep(pause)
    return len(answer)


@pytest.fixture
def half_closed():
    """The address of a server that takes a connection, says this, and closes it, or its own half of it:
    (address, answer, connections, seconds that it stays, seconds behind each byte, how many bytes were taken)."""
    found = type("HalfClosed", (), {"answer": b"", "connections": 0, "stays": 0.0, "slowly": 0.0, "taken": 0})()
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                found.connections += 1
                connection.recv(65536)
                if found.slowly:
                    found.taken = trickle(connection, found.answer, found.slowly)
                else:
                    connection.sendall(found.answer)
                if found.stays:
                    connection.shutdown(socket.SHUT_WR)
                    time.sleep(found.stays)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    found.address = f"127.0.0.1:{listening.getsockname()[1]}"
    yield found
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()
