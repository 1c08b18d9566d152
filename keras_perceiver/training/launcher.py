"""Several workers on one machine, started and watched by one command."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec

from keras_perceiver._checks import require, require_positive
from keras_perceiver.training.cluster import free_addresses
from keras_perceiver.training.stopping import StopRequest

GRACE_SECONDS = 30.0  # in which the others end by themselves when one has failed: they hear of it after ten or so
# As it is installed, beside the package; in a checkout within it.
SCRIPT = "keras_perceiver_command" if find_spec("keras_perceiver_command") else "keras_perceiver._command"
RUN = f"import sys; sys.argv[0] = 'keras-perceiver'; from {SCRIPT} import main; main()"
COMMAND = (sys.executable, "-c", RUN)
TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h


def launch(arguments, *, num_workers=2, command=COMMAND):
    """Runs a command as several workers on this machine, which find each other by TF_CONFIG on the loopback interface.

    What the chief prints is seen as it is, what others print behind their number. SIGTERM and SIGINT are handed to all.
    Where one fails, the others are given time to end, and are then killed.

    Args:
        arguments: of the command, such as `["train", "digits", "--distribute", "multiworker"]`.
        num_workers: at least 1.
        command: what is run.

    Returns:
        Code 0 where all have ended well; else that of one that has not, 75 where it was killed.
    """
    require_positive(workers=num_workers)
    require(arguments, "There must be a command for the workers, such as `train digits --distribute multiworker`")
    addresses = free_addresses(num_workers)
    workers = [_start([*command, *arguments], addresses, index) for index in range(num_workers)]
    threads = [threading.Thread(target=_repeat, args=(w, i + 1)) for i, w in enumerate(workers[1:])]
    for thread in threads:
        thread.start()
    try:
        with StopRequest() as stop:
            _wait(workers, stop)
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
        codes = [worker.wait() for worker in workers]
        for thread in threads:
            thread.join()
    failed = [TRY_AGAIN if code < 0 else code for code in codes if code]
    return min(failed, default=0)


def _start(command, addresses, index):
    task = {"type": "worker", "index": index}
    environment = {**os.environ, "TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task})}
    piped = {} if index == 0 else {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    # In a session of its own: Ctrl-C reaches it through us, once.
    return subprocess.Popen(command, env=environment, start_new_session=True, stdin=subprocess.DEVNULL, **piped)


def _repeat(worker, index):
    with worker.stdout as lines:
        for line in lines:
            print(f"worker {index} | {line.decode(errors='replace').rstrip()}", file=sys.stderr, flush=True)


def _wait(workers, stop):
    """Until all have ended, or one has failed and the others have had their time."""
    handed_on, until = False, None
    while any(worker.poll() is None for worker in workers):
        if stop.name and not handed_on:
            handed_on = True
            for worker in workers:
                worker.send_signal(signal.Signals[stop.name])
        if until is None and any(worker.poll() for worker in workers):
            until = time.monotonic() + GRACE_SECONDS
        if until is not None and time.monotonic() > until:
            return
        time.sleep(0.1)
