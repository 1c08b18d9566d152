"""The end of a run before its time, as it was asked for."""

import signal
import threading


class Stopped(Exception):
    """A run was asked to stop by a signal and left a checkpoint, from which it can go on."""


class StopRequest:
    """Within its block, SIGTERM and SIGINT (Ctrl-C) ask a run to stop, in place of ending the process.

    A second signal ends it as it always does. Outside the main thread, where Python takes no signals, the block changes
    nothing.

    Attributes:
        name: of the signal once there was one; None before.
    """

    def __init__(self):
        self.name = None
        self._handlers = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._take) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_):
        for number, before in self._handlers.items():
            signal.signal(number, before)
        self._handlers = {}

    def _take(self, number, frame):
        self.name = signal.Signals(number).name
        self.__exit__()


def give_back_signals():
    """Puts Python's handlers of SIGTERM and SIGINT back in place of those that a C library has set."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.getsignal(number))
