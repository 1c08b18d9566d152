"""The SavedModel of the small classifier, for all tests that only look at it."""

import json
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

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
    """A double of the server's REST: answers a question for a model's status with `state`, and keeps what was asked."""
    found = types.SimpleNamespace(state="AVAILABLE", asked=[])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found.asked.append(self.path)
            content = json.dumps({"model_version_status": [{"version": "1", "state": found.state}]}).encode()
            self.send_response(200)
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
