"""Who is started, started again and given up, by processes that are none: tests/tuning/test_search.py has real ones."""

import io
import socket
import threading
from types import SimpleNamespace

import grpc
import keras_tuner
import pytest

from keras_perceiver._checks import InputError
from tests.tiny import quiet
from tuning import workers
from tuning.attempts import DIED
from tuning.tuner import Search
from tuning.workers import Role, WorkersLost, run_workers


class Process:
    """One that has ended with a code, or runs on where it is None."""

    def __init__(self, code):
        self.code = code
        self.stdin, self.stdout = io.BytesIO(), io.BytesIO()

    def poll(self):
        return self.code

    def wait(self, seconds=None):
        return self.code

    def terminate(self):
        pass


@pytest.fixture
def run(monkeypatch):
    """A function of the codes of each process, in the order of its starts -> `[(name, environment)]` of those that
    were started."""

    def run(seconds=10, ended=lambda started: 0, **codes):
        started, errors = [], []

        def popen(command, *, env, **options):
            started.append((env[workers.ID], env))
            return Process(codes[env[workers.ID]].pop(0))

        def watched():
            try:
                run_workers({}, len(codes) - 1, Role("tuner0", None, 0), lambda _: ended(started), quiet())
            except Exception as error:
                errors.append(error)

        monkeypatch.setattr(workers.subprocess, "Popen", popen)
        thread = threading.Thread(target=watched, daemon=True)
        thread.start()
        thread.join(seconds)
        assert not thread.is_alive(), "it waits for a worker that waits for a chief that has gone"
        for error in errors:
            raise error
        return started

    return run


@pytest.mark.parametrize("code", [None, 1])
def test_a_worker_that_comes_when_the_chief_has_ended_is_not_waited_for(code, run):
    """As in a finished search: the first worker is told that no trial is left, and the chief ends within a second."""
    assert [name for name, _ in run(chief=[0], worker0=[0], worker1=[code])] == ["chief", "worker0", "worker1"]


def test_who_dies_is_started_again(run):
    names = [name for name, _ in run(chief=[-9, None], worker0=[1, 0], worker1=[0])]
    assert sorted(names) == ["chief", "chief", "worker0", "worker0", "worker1"]


def test_a_worker_is_told_how_the_one_before_has_ended(run):
    environments = [env for name, env in run(chief=[None], worker0=[1, -11, 0]) if name == "worker0"]
    assert [env.get(DIED) for env in environments] == [None, "code 1", "SIGSEGV"]


def test_a_worker_that_ends_trials_between_its_deaths_is_not_given_up(run):
    with pytest.raises(WorkersLost, match="worker0 has died 6 times, the last time with SIGKILL"):
        run(chief=[None], worker0=[-9] * 6)
    assert len(run(chief=[None], worker0=[-9] * 20 + [0], ended=lambda started: len(started) // 3)) == 22


def test_the_chief_takes_no_gpu(run, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    seen = {name: env["CUDA_VISIBLE_DEVICES"] for name, env in run(chief=[0], worker0=[0], worker1=[0])}
    assert seen == {"chief": "-1", "worker0": "0", "worker1": "0"}


@pytest.fixture
def chief(monkeypatch):
    """A function of an address and a port -> `Role` of a chief there."""

    def chief(ip, port):
        for name, value in ((workers.ID, "chief"), (workers.IP, ip), (workers.PORT, str(port))):
            monkeypatch.setenv(name, value)
        return Role.found()

    return chief


@pytest.mark.parametrize(("family", "ip"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "[::1]")])
def test_the_port_of_a_chief_must_be_free(family, ip, chief):
    try:
        taken = socket.create_server((ip.strip("[]"), 0), family=family)
    except OSError as error:
        pytest.skip(f"this machine has no {ip}: {error}")
    with taken:
        role = chief(ip, taken.getsockname()[1])
        with pytest.raises(InputError, match="`port` must be free on"):
            role.require_port()
    role.require_port()


def test_the_address_of_a_chief_must_be_one_of_this_machine(chief):
    with pytest.raises(InputError, match=r"`KERASTUNER_ORACLE_IP` must be an address of this machine.*192\.0\.2\.1"):
        chief("192.0.2.1", 8000).require_port()  # of no machine: it is for examples
    with pytest.raises(InputError, match="`KERASTUNER_ORACLE_IP` must have brackets about an IPv6 address"):
        chief("::1", 8000)


def test_a_stray_name_is_the_one_that_kerastuner_takes_for_this_process(monkeypatch):
    """Without an address it is a search of one process, whose files have that name."""
    monkeypatch.delenv(workers.IP, raising=False)
    monkeypatch.setenv(workers.ID, "stray")
    assert Role.found() == Role("stray", None, 0)
    monkeypatch.delenv(workers.ID)
    assert Role.found() == Role("tuner0", None, 0)


def test_a_chief_that_cannot_be_reached_ends_the_worker_and_fails_no_trial(monkeypatch, tmp_path):
    gone = type("Gone", (grpc.RpcError, grpc.Call), {"code": lambda self: grpc.StatusCode.UNAVAILABLE})
    gone.__abstractmethods__ = frozenset()

    def fail(*_, **__):
        raise gone

    monkeypatch.setattr(keras_tuner.Hyperband, "run_trial", fail)
    search = object.__new__(Search)
    search.tuner_id, search.is_watched, search._facts = "worker0", True, {}
    monkeypatch.setattr(Search, "get_trial_dir", lambda self, trial_id: str(tmp_path))
    with pytest.raises(keras_tuner.errors.FatalError, match=r"cannot be reached \(UNAVAILABLE\)"):
        search.run_trial(SimpleNamespace(trial_id="0"))
    assert search._facts == {}
