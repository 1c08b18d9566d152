"""The client of TensorFlow Serving, against a double: a loopback service on the real protos, which can fail.

No TensorFlow Serving runs here: what is tested is what the client sends, and what it does with answers and faults.
"""

import base64
import json
import resource
import shutil
import socket
import subprocess
import threading
from concurrent import futures

import grpc
import numpy as np
import pytest
from PIL import Image
from tensorflow_serving.apis import prediction_service_pb2_grpc
from typer.testing import CliRunner

from keras_perceiver._checks import InputError
from keras_perceiver.cli import app
from keras_perceiver.export import SavedClassifier, ServedModel, client
from tests.layer_checks import thorough

RNG = np.random.default_rng(0)
HTTP2_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # the first thing that a server of gRPC says


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
    ("kind", "fault"),
    [
        ("double", grpc.StatusCode.UNAVAILABLE),
        ("double", grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("rest_double", 503),
        ("rest_double", 429),
    ],
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


@pytest.mark.parametrize(("kind", "fault"), [("double", grpc.StatusCode.FAILED_PRECONDITION), ("rest_double", 400)])
def test_a_request_that_was_joined_to_one_of_another_shape_is_asked_again(kind, fault, request):
    """The words of the server, which fails all requests of such a batch."""
    service = request.getfixturevalue(kind)
    service.says = "Tensors with name 'x' from different tasks have different shapes and padding is turned off."
    service.faults.append(fault)
    assert ServedModel(service.address, "animals").ask(images(2))["logits"].shape == (2, 1)
    assert len(service.requests) == 2


@pytest.mark.parametrize(("kind", "fault"), [("double", grpc.StatusCode.NOT_FOUND), ("rest_double", 404)])
def test_what_is_refused_is_not_asked_again(kind, fault, request):
    service = request.getfixturevalue(kind)
    service.faults.append(fault)
    with pytest.raises(InputError, match=r"'animals'.*said the double"):
        ServedModel(service.address, "animals").ask(images(1))
    assert len(service.requests) == 1


def test_what_cannot_be_asked_is_refused_before_it_is_sent(double):
    for server in (
        "127.0.0.1",
        "ftp://127.0.0.1:80",
        "127.0.0.1:many",
        "http://127.0.0.1:80/v1",
        "[::1:8500",
        "//[a]:1",
    ):
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
    remote = SavedClassifier(exported[1].folder, server=double.address, timeout=120.0)
    np.testing.assert_array_equal(remote.probabilities(pictures), local.probabilities(pictures))
    assert double.requests[0].model_spec.name == "animals"


def test_the_command_asks_a_server_for_the_version_that_is_named(double, exported, tmp_path):
    export = exported[1]
    double.answer = SavedClassifier(export.folder)._ask
    picture = tmp_path / "a.png"
    Image.fromarray(RNG.integers(0, 256, (5, 7), np.uint8)).save(picture)
    asked = ["predict", str(export.folder), str(picture), "--json"]
    options = ["--server", double.address, "--server-version", "stable"]
    remote = CliRunner().invoke(app, [*asked, *options, "--timeout", "60"])
    local = CliRunner().invoke(app, asked)
    assert remote.exit_code == 0, remote.stderr
    assert json.loads(remote.stdout) == json.loads(local.stdout)
    assert double.requests[0].model_spec.version_label == "stable"
    plain = CliRunner().invoke(app, [*asked, *options, "--certificates", str(picture)])
    assert plain.exit_code == 2
    assert "`certificates` are for TLS" in plain.stderr


def test_a_server_may_have_any_version_so_those_on_the_shelf_must_name_the_same_classes(
    double, exported, tmp_path, monkeypatch
):
    home = tmp_path / "animals"
    for version in ("1", "2"):
        shutil.copytree(exported[1].folder, home / version)
    double.answer = SavedClassifier(home)._ask
    pictures = np.zeros((1, *exported[0].input_shape[1:]), np.float32)
    assert SavedClassifier(home, server=double.address).logits(pictures).shape == (1, 3)
    description = home / "2" / "assets.extra" / "perceiver.json"
    content = json.loads(description.read_text())
    description.write_text(json.dumps({**content, "class_names": content["class_names"][::-1]}))
    with pytest.raises(
        InputError, match=r"the version that the server has loaded.*differ in their class names.*version=1"
    ):
        SavedClassifier(home, server=double.address)
    assert SavedClassifier(home / "1", server=double.address).logits(pictures).shape == (1, 3)
    assert double.requests[-1].model_spec.version.value == 1  # whichever is the highest that the server has
    assert SavedClassifier(home / "1", server=double.address, version=1).logits(pictures).dtype == np.float32
    for other in (2, "stable"):
        with pytest.raises(InputError, match=r"the version that the server has loaded.*differ in their class names"):
            SavedClassifier(home / "1", server=double.address, version=other)
    monkeypatch.chdir(home / "1")
    assert SavedClassifier(".", server=double.address).logits(pictures).shape == (1, 3)
    assert double.requests[-1].model_spec.version.value == 1
    with pytest.raises(InputError, match=r"`inputs` must hold image.*missing=\['image'\]"):
        SavedClassifier(home / "1").logits({"picture": pictures})


def test_an_answer_that_breaks_off_is_asked_for_again_and_then_given_up(half_closed):
    for answer in (b"", b'HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{"outputs"', b"HTTP/1.1 20"):
        half_closed.answer, half_closed.connections = answer, 0
        with pytest.raises(InputError, match="3 attempts failed"):
            ServedModel(f"http://{half_closed.address}", "animals", attempts=3).ask(images(1))
        assert half_closed.connections == 3
    for length in (10**13, 10**20):  # more than there is memory for
        half_closed.answer = b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n{"outputs"' % length
        with pytest.raises(InputError, match="1 attempt failed"):
            ServedModel(f"http://{half_closed.address}", "animals", attempts=1).ask(images(1))
    for answer, stays in ((half_closed.answer, 0.0), (HTTP2_SETTINGS, 0.2)):  # closed, and closed by half
        half_closed.answer, half_closed.stays = answer, stays
        with pytest.raises(InputError, match=r"2 attempts failed.*UNAVAILABLE"):
            ServedModel(half_closed.address, "animals", attempts=2).ask(images(1))
    half_closed.answer, half_closed.connections, half_closed.stays = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
        0,
        0.2,
    )
    with pytest.raises(InputError, match="2 attempts failed"):
        ServedModel(f"http://{half_closed.address}", "animals", attempts=2).ask(images(1))
    half_closed.answer, half_closed.stays = b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"a": 1}}', 0.0
    with pytest.raises(InputError, match="must answer as TensorFlow Serving does"):
        ServedModel(f"http://{half_closed.address}", "animals", attempts=3).ask(images(1))


def test_a_server_that_takes_another_version_between_two_requests_is_noticed(double, monkeypatch):
    monkeypatch.setattr(client, "BATCH", 2)
    widths = iter((3, 4))
    double.answer = lambda inputs: {"logits": np.zeros((len(inputs["image"]), next(widths)))}
    with pytest.raises(InputError, match=r"must answer alike.*first=\{'logits': \(3,\)\}, now=\{'logits': \(4,\)\}"):
        ServedModel(double.address, "animals").ask(images(4))


def test_a_server_that_comes_late_is_met(double):
    """gRPC itself waits a second after a connection that failed: longer than our first attempts."""
    spare = socket.create_server(("127.0.0.1", 0))
    port = spare.getsockname()[1]
    spare.close()
    late = grpc.server(futures.ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(double, late)

    def start():
        late.add_insecure_port(f"127.0.0.1:{port}")
        late.start()

    timer = threading.Timer(0.3, start)
    timer.start()
    answer = ServedModel(f"127.0.0.1:{port}", "animals", attempts=8, timeout=30.0).ask(images(1))
    timer.join()
    late.stop(None).wait()
    assert answer["logits"].shape == (1, 1)


@pytest.mark.parametrize("kind", ["double", "rest_double"])
def test_an_answer_of_another_shape_or_model_is_refused(kind, request, exported):
    service = request.getfixturevalue(kind)
    for wrong in ({"logits": np.zeros((3, 2))}, {}, {"logits": np.zeros((2, 2)), "probabilities": np.float32(1)}):
        service.answer = lambda inputs, wrong=wrong: {name: np.asarray(x) for name, x in wrong.items()}
        with pytest.raises(InputError, match="a row for each of 2 examples"):
            ServedModel(service.address, "animals").ask(images(2))
    classifier = SavedClassifier(exported[1].folder, server=service.address)
    service.answer = lambda inputs: {"logits": np.zeros((2, 5)), "probabilities": np.zeros((2, 5))}
    with pytest.raises(InputError, match=r"model of 3 classes must answer.*logits=\(2, 5\)"):
        classifier.logits(np.zeros((2, 5, 7, 1), np.float32))
    if kind == "double":
        service.name = "plants"
        with pytest.raises(InputError, match=r"must answer for the model 'animals'.*model='plants'"):
            ServedModel(service.address, "animals").ask(images(2))


def test_a_name_or_a_label_that_could_leave_its_place_is_refused(double, exported, tmp_path):
    for name in ("../animals", "a/b", "", "animals:predict", "a?b"):
        with pytest.raises(InputError, match="`name` must begin"):
            ServedModel(double.address, name)
    for version in ("../1", "a/b", "", "1:predict"):
        with pytest.raises(InputError, match="`version` must be"):
            ServedModel(double.address, "animals", version=version)
    ServedModel(double.address, "animals", version="3").ask(images(1))
    assert double.requests[-1].model_spec.version.value == 3
    folder = shutil.copytree(exported[1].folder, tmp_path / "1")
    description = folder / "assets.extra" / "perceiver.json"
    description.write_text(description.read_text().replace('"animals"', '"../plants"'))
    with pytest.raises(InputError, match="`name` must begin"):
        SavedClassifier(folder, server=double.address)
    with pytest.raises(InputError, match="are for `server`"):
        SavedClassifier(exported[1].folder, version=1)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes a certificate, is not on the PATH")
def test_tls_trusts_the_authorities_that_are_named_and_no_other(double, rest_double, tmp_path):
    import ssl

    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    server = grpc.server(futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(double, server)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    rest_double.rest.socket = context.wrap_socket(rest_double.rest.socket, server_side=True)
    rest_port = rest_double.rest.server_address[1]
    for address in (f"grpcs://127.0.0.1:{port}", f"https://127.0.0.1:{rest_port}"):
        asked = ServedModel(address, "animals", certificates=certificate, timeout=20.0).ask(images(2))
        assert asked["logits"].shape == (2, 1)
        with pytest.raises(InputError, match="must be reachable"):
            ServedModel(address, "animals", attempts=1, timeout=5.0).ask(images(2))
    server.stop(None).wait()
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n")
    for path in (tmp_path / "nowhere", key, broken):
        with pytest.raises(InputError, match="`certificates` must be"):
            ServedModel("grpcs://127.0.0.1:1", "animals", certificates=path)


@pytest.mark.parametrize("kind", ["double", "rest_double"])
@pytest.mark.parametrize("count", [500, *thorough(10_000)], ids=str)
def test_requests_from_many_threads_are_all_answered_and_memory_stays_flat(count, kind, request):
    """Each thread asks for sums that no other asks for. Memory is compared with that after a fifth of the requests."""
    answered, lock, memory, double = [0], threading.Lock(), [], request.getfixturevalue(kind)
    double.requests = type(
        "Counter", (list,), {"append": lambda self, _: list.append(self, 0) if len(self) < 9 else 0}
    )()
    model = ServedModel(double.address, "animals", timeout=60.0)

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    def ask(thread):
        for i in range(thread, count, 8):
            value = np.full((1, 2, 3, 1), i, np.float32)
            assert model.ask({"image": value})["logits"].item() == 6 * i
            with lock:
                answered[0] += 1
                if answered[0] in (count // 5, count):
                    memory.append(resident())

    with futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    assert answered == [count]
    assert memory[1] - memory[0] < 30 * 2**20
