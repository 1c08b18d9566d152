"""Several processes for one search: KerasTuner's chief, which holds the oracle, and its workers, which train.

KerasTuner makes a process one of them by its environment, see `Role`; here they are started on one machine, and started
again where they die: a worker that asks again under its name is given its trial again, and a chief reloads its oracle.
"""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from keras_perceiver._checks import InputError, require
from keras_perceiver.training.cluster import free_addresses
from tuning.attempts import DIED

ID, IP, PORT = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"
LAUNCHED = "KERAS_PERCEIVER_TUNING_LAUNCHED"  # in a process that was started here, and ends with its parent
LOOPBACK = "127.0.0.1"
MOST_DEATHS = 5  # of one process, between two trials that it ends; of one trial it dies less often, see `attempts`
GRACE_SECONDS = 10.0
ROOT = Path(__file__).parent.parent


class WorkersLost(RuntimeError):
    """A process has died again and again; the same command goes on."""


@dataclass(frozen=True)
class Role:
    """What this process is in a search.

    Attributes:
        tuner_id: KerasTuner's name for it; one with "chief" in it is the chief.
        ip, port: where the chief listens; None for a search of one process.
        is_launched: whether `run_workers` has started it.
    """

    tuner_id: str
    ip: str | None = None
    port: int | None = None
    is_launched: bool = False

    @classmethod
    def found(cls, port=0):
        """The role that the environment gives; without one, a search on this machine, whose workers would use `port`.

        Raises:
            InputError: where the environment is not whole.
        """
        values = {name: os.environ.get(name) for name in (ID, IP, PORT)}
        if values[IP] is None:
            return cls(values[ID] or "tuner0", None, port)  # as KerasTuner names it
        text = values[PORT] or ""
        require(
            values[ID] and text.isdecimal() and 0 < int(text) < 2**16,
            f"`{ID}` must be set with `{IP}`, 'chief' or a name of each worker's own, and `{PORT}`, a port",
            **values,
        )
        is_whole = ":" not in values[IP] or values[IP].startswith("[")
        require(is_whole, f"`{IP}` must have brackets about an IPv6 address, such as [::1]", **{IP: values[IP]})
        return cls(values[ID], values[IP], int(text), LAUNCHED in os.environ)

    @property
    def is_alone(self):
        return self.ip is None

    @property
    def is_worker(self):
        return not self.is_alone and "chief" not in self.tuner_id

    @property
    def owns_folder(self):
        """Whether it alone writes what is not KerasTuner's."""
        return not self.is_worker and not self.is_launched

    reports = owns_folder

    def require_port(self):
        """Requires a chief, or one that will be started here, to find its address here, and its port free."""
        if self.is_launched or self.is_worker or not self.port:
            return
        host = self.ip or LOOPBACK
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host.strip("[]"), self.port, type=socket.SOCK_STREAM
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen()
        except OSError as error:
            is_strange = isinstance(error, socket.gaierror) or error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
            require(
                not is_strange,
                f"`{IP}` must be an address of this machine, at which the chief listens",
                repair=f"({error.strerror})",
                **{IP: host},
            )
            raise InputError(
                f"`port` must be free on {host}. Received: port={self.port}. ({error.strerror}) "
                "Choose another one, or leave it out with `--workers`."
            ) from error


def run_workers(arguments, count, role, ended, console):
    """Runs a search as a chief and so many workers on this machine, until the workers or the chief have ended.

    Args:
        arguments: of `search`, as JSON can hold them.
        count: of workers.
        role: `Role` of this process, with the port.
        ended: function of the name of a worker: how many trials it has ended.
        console: `rich.console.Console`.

    Raises:
        InputError: where a process ends with code 2, which has said why.
        WorkersLost: where one has died too often.
    """
    address = f"{LOOPBACK}:{role.port}" if role.port else free_addresses(1)[0]
    cores = max(1, len(os.sched_getaffinity(0)) // count)
    shared = {IP: LOOPBACK, PORT: address.rpartition(":")[2], LAUNCHED: "1", "TF_NUM_INTRAOP_THREADS": str(cores)}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "tuning.workers", json.dumps(arguments, default=str)]

    def start(name, **more):
        # In a session of its own: Ctrl-C reaches it through us. Its input ends when we do, however that is.
        environment = {**os.environ, **shared, **more, ID: name, "PYTHONPATH": path}
        if name == "chief":
            environment["CUDA_VISIBLE_DEVICES"] = "-1"  # it trains nothing
        output = {} if name == "chief" else {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, env=environment, start_new_session=True, stdin=subprocess.PIPE, **output)
        if output:
            threading.Thread(target=_repeat, args=(process, name), daemon=True).start()
        return process

    processes = {name: start(name) for name in ("chief", *(f"worker{number}" for number in range(count)))}
    try:
        _watch(processes, start, ended, console)
    finally:
        _end(processes.values())


def _watch(processes, start, ended, console):
    """Until all workers have ended well, or the chief has; who dies is started again.

    The chief ends where no trial is left and no worker has one. A worker that comes later, as one that is slow to begin
    or that has died behind its last trial, would wait for it for an hour.
    """
    deaths, ended_before = Counter(), {}
    while processes["chief"].poll() != 0 and any(p.poll() != 0 for name, p in processes.items() if name != "chief"):
        for name, process in processes.items():
            code = process.poll()
            if code in (None, 0):
                continue
            require(
                code != 2, f"The {name} must be able to search as it is asked to", repair="It has said what is wrong."
            )
            if ended(name) != ended_before.get(name):
                deaths[name], ended_before[name] = 0, ended(name)
            deaths[name] += 1
            how = f"code {code}" if code > 0 else signal.Signals(-code).name
            if deaths[name] > MOST_DEATHS:
                raise WorkersLost(f"{name} has died {deaths[name]} times, the last time with {how}")
            console.print(f"{name} has ended with {how}, and is started again", highlight=False)
            process.stdin.close()
            processes[name] = start(name, **{DIED: how})
        time.sleep(0.1)


def _end(processes):
    for process in processes:
        process.terminate()
    until = time.monotonic() + GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()


def _repeat(process, name):
    """What a worker prints, behind its name."""
    with process.stdout as lines:
        for line in lines:
            print(f"{name} | {line.decode(errors='replace').rstrip()}", file=sys.stderr, flush=True)


def _end_with_parent():
    """Ends this process at once when its input does: whoever started it is gone."""
    while os.read(0, 1024):  # not by `sys.stdin`, whose lock would be held when this process ends by itself
        pass
    os._exit(75)


def main():
    """One process of `run_workers`."""
    from keras_perceiver.cli_options import table_console
    from tuning.search import search

    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        search(**json.loads(sys.argv[1]), console=table_console())
    except InputError as error:
        print(f"tuning: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
