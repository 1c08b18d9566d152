"""Which processes train one model together, and whether all of them are there."""

import json
import os
import socket
import time
from dataclasses import dataclass

from keras_perceiver._checks import InputError, require, require_above

WAIT_SECONDS = 300.0  # for the others, where nothing else is asked for
HELLO_BYTES = 4096  # at most, of what a process says when it comes
EXAMPLE = '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Cluster:
    """The workers of a run, and which of them this process is; the first is the chief.

    Attributes:
        addresses: "HOST:PORT" of each worker, where it listens.
        index: of this process.

    Raises:
        InputError: where an address is none, one is there twice, or there is no such index.
    """

    addresses: tuple[str, ...]
    index: int

    def __post_init__(self):
        require(self.addresses, "`worker_addresses` must name at least one worker", worker_addresses=self.addresses)
        for address in self.addresses:
            host, _, port = str(address).rpartition(":")
            is_legal = bool(host) and port.isdecimal() and 0 < int(port) < 2**16
            require(is_legal, "The address of a worker must be HOST:PORT", address=address)
        twice = sorted({address for address in self.addresses if self.addresses.count(address) > 1})
        require(not twice, "Each worker must have an address of its own", twice=twice)
        require(
            isinstance(self.index, int) and 0 <= self.index < len(self.addresses),
            f"`worker_index` must be an integer from 0 to {len(self.addresses) - 1}, one for each worker",
            worker_index=self.index,
        )

    @property
    def address(self):
        return self.addresses[self.index]

    @property
    def is_chief(self):
        return self.index == 0

    @classmethod
    def found(cls, addresses=None, index=None):
        """The cluster of those addresses, or of the environment variable `TF_CONFIG` where none are given."""
        if addresses is not None:
            require(index is not None, "`worker_index` must be given with `worker_addresses`", worker_index=index)
            return cls(tuple(addresses), index)
        require(index is None, "`worker_addresses` must be given with `worker_index`", worker_index=index)
        text = os.environ.get("TF_CONFIG", "")
        require(
            text.strip(),
            "Several workers must know each other, by `worker_addresses` and `worker_index` or by TF_CONFIG",
            TF_CONFIG=text,
            repair="`keras-perceiver launch --workers 2 train ..` starts them on this machine.",
        )
        return cls.parsed(text)

    @classmethod
    def parsed(cls, text):
        """The cluster that the text of a `TF_CONFIG` describes: of workers, and a chief before them or none."""
        try:
            config = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"TF_CONFIG must be JSON, such as {EXAMPLE}. {error}. Received: {text!r}.") from error
        config = config if isinstance(config, dict) else {}
        jobs, task = config.get("cluster"), config.get("task")
        jobs, task = jobs if isinstance(jobs, dict) else {}, task if isinstance(task, dict) else {}
        strange = sorted(jobs.keys() - {"chief", "worker"})
        require(not strange, "The cluster of TF_CONFIG must have no jobs but `chief` and `worker`", jobs=strange)
        lists = [jobs.get(job, []) for job in ("chief", "worker")]
        kind, index = task.get("type"), task.get("index")
        is_whole = (
            any(lists)
            and all(isinstance(job, list) for job in lists)
            and kind in jobs
            and isinstance(index, int)
            and 0 <= index < len(jobs[kind])
        )
        require(
            is_whole,
            f"TF_CONFIG must name a cluster and the task of this process in it, such as {EXAMPLE}",
            TF_CONFIG=text,
        )
        return cls((*lists[0], *lists[1]), index if kind == "chief" or not lists[0] else index + len(lists[0]))


def meet(cluster, seconds=WAIT_SECONDS):
    """Waits until every worker of a cluster has come.

    TensorFlow waits for an hour, and then ends the process. So the workers meet before, at the chief's address: each
    says which it is, and once all have, the chief lets them go on and gives the port free.

    Raises:
        InputError: where a worker does not come in time, or comes twice, or the address cannot be listened at.
    """
    require_above(0, worker_timeout=seconds)
    if len(cluster.addresses) == 1:
        return
    until = time.monotonic() + seconds
    with _listening(cluster):
        pass  # the port is free
    if cluster.is_chief:
        _gather(cluster, until, seconds)
    else:
        _come(cluster, until, seconds)


def free_addresses(count):
    """So many addresses of this machine, on its loopback interface, at which nobody listens now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return tuple(f"127.0.0.1:{s.getsockname()[1]}" for s in sockets)
    finally:
        for s in sockets:
            s.close()


def _listening(cluster):
    """A socket at this worker's port: on its own interface where that is the loopback one, else on all."""
    host, _, port = cluster.address.rpartition(":")
    is_local = host in ("localhost", "127.0.0.1")
    try:
        return socket.create_server(("127.0.0.1" if is_local else "", int(port)), backlog=len(cluster.addresses))
    except OSError as error:
        raise InputError(
            f"A worker must be able to listen at its address. ({error.strerror or error}) "
            f"Received: worker {cluster.index} at {cluster.address}. Another process may still use the port."
        ) from error


def _gather(cluster, until, seconds):
    """The chief's part of `meet`."""
    come = {}
    try:
        with _listening(cluster) as server:
            while len(come) < len(cluster.addresses) - 1:
                server.settimeout(max(0.01, until - time.monotonic()))
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    break
                index = _heard(connection, cluster)
                if index is None or index in come:
                    connection.close()
                    require(index is None, "Each worker must have an index of its own", twice=index)
                else:
                    come[index] = connection
        missing = [i for i in range(1, len(cluster.addresses)) if i not in come]
        named = ", ".join(f"worker {i} ({cluster.addresses[i]})" for i in missing)
        require(
            not missing,
            f"All workers must come within {seconds:g} s. There was nothing of {named}",
            repair="Start all of them, or wait longer with `--worker-timeout`.",
        )
        for connection in come.values():
            connection.sendall(b"go\n")
    finally:
        for connection in come.values():
            connection.close()


def _heard(connection, cluster):
    """The index of the worker at the other end; None for what is no worker of this cluster."""
    connection.settimeout(2.0)
    try:
        hello = json.loads(connection.makefile("rb").readline(HELLO_BYTES))
        if hello["addresses"] == list(cluster.addresses) and hello["index"] in range(1, len(cluster.addresses)):
            return hello["index"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _come(cluster, until, seconds):
    """The part of `meet` of those who are not the chief."""
    host, _, port = cluster.addresses[0].rpartition(":")
    hello = json.dumps({"addresses": cluster.addresses, "index": cluster.index}).encode() + b"\n"
    problem = "nothing of it"
    while (left := until - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, int(port)), timeout=left) as connection:
                connection.sendall(hello)
                connection.settimeout(max(0.01, until - time.monotonic()))
                if connection.recv(8) == b"go\n":
                    return
                problem = "it does not know this worker, or another one was not there"
        except OSError as error:
            problem = error.strerror or str(error)
        time.sleep(min(0.2, max(0.0, until - time.monotonic())))
    raise InputError(
        f"The chief (worker 0 at {cluster.addresses[0]}) must answer within {seconds:g} s. There was {problem}. "
        "Start all workers with the same addresses, or wait longer with `--worker-timeout`."
    )
