"""TensorFlow Serving itself, wherever its program is on the PATH: what no double can tell."""

import shutil
import socket
import subprocess
import time
import urllib.request

import numpy as np
import pytest

from keras_perceiver._checks import InputError
from keras_perceiver.export import SavedClassifier, ServedModel, export_saved_model, write_serving_config
from keras_perceiver.export.manifests import METRICS, arguments
from tests.small_classifier import NAMES, SHAPE, small_classifier

PROGRAM = shutil.which("tensorflow_model_server")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="tensorflow_model_server is not on the PATH")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """(shelf, gRPC address, REST address) of a server that was started as the manifests start it."""
    shelf = tmp_path_factory.mktemp("served")
    for seed in (1, 2):
        export_saved_model(small_classifier(seed), "animals", NAMES, shelf=shelf, xla=True)
    write_serving_config(shelf, stable={"animals": 1}, root=str(shelf))
    grpc, rest = free_port(), free_port()
    command = [PROGRAM, f"--port={grpc}", f"--rest_api_port={rest}", *arguments(shelf, xla=True)]
    log = open(shelf / "server.log", "w")  # noqa: SIM115  (as long as the process)
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(240):
            if process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", rest)) == 0:
                    break
            time.sleep(0.5)
        else:
            pytest.fail((shelf / "server.log").read_text()[-3000:])
        assert process.poll() is None, (shelf / "server.log").read_text()[-3000:]
        yield shelf, f"127.0.0.1:{grpc}", f"http://127.0.0.1:{rest}"
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def test_the_server_answers_as_the_saved_model_on_every_endpoint(server):
    shelf, *addresses = server
    local = SavedClassifier(shelf / "animals" / "1")
    pictures = np.random.default_rng(0).uniform(0, 255, (21, *SHAPE)).astype(np.float32)
    for address in addresses:
        remote = SavedClassifier(shelf / "animals" / "1", server=address, version="stable", timeout=60.0)
        np.testing.assert_allclose(remote.logits(pictures), local.logits(pictures), rtol=1e-4, atol=1e-5)
        model = ServedModel(address, "animals", version="stable", timeout=60.0)
        compiled = model.ask({"image": pictures}, "serving_xla")["logits"]
        np.testing.assert_allclose(compiled, local.logits(pictures), rtol=1e-4, atol=1e-4)
        assert model.ask({"image": pictures}, "embed")["latent_array"].shape == (21, 3, 8)
        assert list(model.ask({"encoded": [b"no picture"]}, "from_bytes")["valid"]) == [False]
        with pytest.raises(InputError, match="did not answer"):
            model.ask({"image": pictures[:, :3]})
        with pytest.raises(InputError, match="did not answer"):
            ServedModel(address, "plants").ask({"image": pictures})


def test_labels_move_and_metrics_are_told(server):
    shelf, grpc, rest = server
    pictures = np.random.default_rng(0).uniform(0, 255, (3, *SHAPE)).astype(np.float32)
    expected = SavedClassifier(shelf / "animals" / "2").logits(pictures)

    def wait_for(label):
        for _ in range(120):
            try:
                found = ServedModel(grpc, "animals", version=label, timeout=10.0).ask({"image": pictures})["logits"]
                if np.allclose(found, expected, atol=1e-4):
                    return
            except InputError:
                pass
            time.sleep(0.5)
        pytest.fail(f"{label}: {(shelf / 'server.log').read_text()[-3000:]}")

    write_serving_config(shelf, canary={"animals": 2}, root=str(shelf))
    wait_for("canary")
    write_serving_config(shelf, stable={"animals": 2}, root=str(shelf))
    wait_for("stable")
    with urllib.request.urlopen(rest + METRICS, timeout=30) as answer:
        assert b"tensorflow" in answer.read()
