"""A server that is slow, or says nothing, is given up when its time is over."""

import socket
import time

import numpy as np
import pytest

from keras_perceiver._checks import InputError
from keras_perceiver.export import ServedModel, client

INPUTS = {"image": np.ones((2, 2, 3, 1), np.float32)}


@pytest.mark.parametrize("kind", ["double", "rest_double"])
def test_a_server_that_is_too_slow_is_said_within_the_deadline(kind, request):
    service, began = request.getfixturevalue(kind), time.monotonic()
    service.pause = 2.0
    with pytest.raises(InputError, match=r"must answer in time.*--timeout"):
        ServedModel(service.address, "animals", timeout=0.3).ask(INPUTS)
    assert time.monotonic() - began < 1.9
    assert len(service.requests) == 1  # it is not asked twice


def test_a_server_that_is_not_there_is_said_within_the_deadline():
    began = time.monotonic()
    with pytest.raises(InputError, match="must be reachable"):
        ServedModel("127.0.0.1:1", "animals", timeout=1.0).ask(INPUTS)
    with pytest.raises(InputError, match="must be reachable"):
        ServedModel("http://127.0.0.1:1", "animals", timeout=1.0).ask(INPUTS)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "begin", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 400 No\r\n\r\n"]
)
def test_an_answer_that_trickles_is_given_up_at_the_deadline(begin, half_closed):
    """Each byte of its status, headers, content or reason comes in time, all of them together do not."""
    half_closed.answer, half_closed.slowly = begin + 500 * b" ", 0.02  # 10 s
    with pytest.raises(InputError, match=r"must answer in time.*--timeout|400: ") as said:
        ServedModel(f"http://{half_closed.address}", "animals", timeout=1.0).ask(INPUTS)
    assert ("400: " in str(said.value)) == (b" 400 " in begin)
    until = time.monotonic() + 30
    while not half_closed.taken and time.monotonic() < until:
        time.sleep(0.05)
    assert 0 < half_closed.taken < 200


def test_a_request_that_is_not_taken_is_given_up_at_the_deadline():
    """32 MB for a server that accepts and reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = ServedModel(f"http://127.0.0.1:{listening.getsockname()[1]}", "animals", timeout=1.0)
        with pytest.raises(InputError, match=r"must answer in time.*did not take the request.*--timeout"):
            server.ask({"encoded": [b"x" * 2**24, b"y" * 2**23]})


def test_every_address_of_a_host_is_tried_in_the_same_time(rest_double, monkeypatch):
    """The first one says nothing for as long as it is let; the one behind it has what is left."""
    waits, connect = [], socket.socket.connect

    def connect_but_for_the_first(sock, place):
        waits.append((place[0], sock.gettimeout()))
        if place[0] == "127.0.0.9":
            raise TimeoutError("timed out")
        connect(sock, place)

    monkeypatch.setattr(socket.socket, "connect", connect_but_for_the_first)
    port, found = rest_double.rest.server_address[1], socket.getaddrinfo
    monkeypatch.setattr(
        client.urllib.request.socket,
        "getaddrinfo",
        lambda host, *rest, **more: [
            address
            for name in (("127.0.0.9", "127.0.0.1") if host == "localhost" else (host,))
            for address in found(name, *rest, **more)
        ],
    )
    assert ServedModel(f"http://localhost:{port}", "animals", timeout=20.0).ask(INPUTS)["logits"].shape == (2, 1)
    (first, half), (second, rest) = waits
    assert (first, second) == ("127.0.0.9", "127.0.0.1")
    assert 9 < half <= 10  # of the 20 s
    assert 15 < rest <= 20


def test_a_handshake_that_nobody_answers_is_given_up_at_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = ServedModel(f"https://127.0.0.1:{listening.getsockname()[1]}", "animals", timeout=0.5, attempts=1)
        began = time.monotonic()
        with pytest.raises(InputError, match=r"must answer in time.*--timeout.*timeout=0\.5"):
            server.ask(INPUTS)
    assert time.monotonic() - began < 10
