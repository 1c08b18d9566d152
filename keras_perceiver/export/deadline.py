"""HTTP within a deadline: Python's own limit is for each part of an answer, however many there are."""

import functools
import http.client
import io
import socket
import time
import urllib.request


def urlopen(request, until, context):
    """As `urllib.request.urlopen`; the connection, the request, the headers and the answer share one limit of time. To
    look up the name of a host is left to the system's own.

    Args:
        request: a `urllib.request.Request`.
        until: moment of `time.monotonic`.
        context: `ssl.SSLContext`, for https.

    Returns:
        The open answer, whose reads raise TimeoutError behind `until`.
    """
    handlers = (_Handler(until), _PrivateHandler(until, context))
    return urllib.request.build_opener(*handlers).open(request, timeout=_left(until))


def _left(until):
    """Seconds until then."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("It came too slowly.")
    return left


def _connected(address, timeout, source_address, *, until):
    """As `socket.create_connection`, whose limit is for each of a host's addresses."""
    addresses = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    for number, (family, kind, protocol, _, place) in enumerate(addresses):
        left, sock = len(addresses) - number, socket.socket(family, kind, protocol)
        try:
            sock.settimeout(_left(until) / left)
            if source_address:
                sock.bind(source_address)
            sock.connect(place)
            sock.settimeout(_left(until))  # of what comes next, such as the handshake of TLS
        except BaseException as error:
            sock.close()
            if left == 1 or not isinstance(error, OSError):
                raise
        else:
            return sock
    raise OSError(f"{address[0]!r} has no address.")


class _Incoming(io.RawIOBase):
    """What comes from a socket, each part in the time that is left."""

    def __init__(self, sock, until):
        super().__init__()
        self._sock, self._file, self._until = sock, sock.makefile("rb", buffering=0), until

    def readable(self):
        return True

    def readinto(self, part):
        self._sock.settimeout(_left(self._until))
        return self._file.readinto(part)

    def close(self):
        self._file.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock, *arguments, until, **options):
        super().__init__(sock, *arguments, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_Incoming(sock, until))


class _Timed:
    """Part of a connection, whose every step ends in time."""

    def __init__(self, *arguments, until, **options):
        super().__init__(*arguments, **options)
        self._until = until
        self._create_connection = functools.partial(_connected, until=until)  # kept there to be replaced
        self.response_class = functools.partial(_Answer, until=until)

    def send(self, data):
        if self.sock is not None:
            self.sock.settimeout(_left(self._until))
        super().send(data)


class _Connection(_Timed, http.client.HTTPConnection):
    pass


class _PrivateConnection(_Timed, http.client.HTTPSConnection):
    pass


class _Handler(urllib.request.HTTPHandler):
    def __init__(self, until):
        super().__init__()
        self._until = until

    def http_open(self, request):
        return self.do_open(functools.partial(_Connection, until=self._until), request)


class _PrivateHandler(urllib.request.HTTPSHandler):
    def __init__(self, until, context):
        super().__init__(context=context)
        self._until, self._trusted = until, context

    def https_open(self, request):
        return self.do_open(functools.partial(_PrivateConnection, until=self._until), request, context=self._trusted)
