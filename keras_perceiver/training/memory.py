"""The memory of a process that trains: how much it holds, and what it frees and asks for again."""

import ctypes
import gc
import platform
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)


def keep_freed_memory():
    """Tells the C library to keep memory that is freed, for the whole process.

    XLA on the CPU asks for all temporaries of a step anew, and glibc takes each large block from the kernel and gives
    it back: the kernel then has to make the same pages again, full of zeros, in every step. A process that trains takes
    the same memory over and over, so it may as well keep it; at its peak it is as large as before.

    Returns:
        Whether the C library knows how: glibc does, others are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return mallopt(M_MMAP_MAX, 0) == 1 and mallopt(M_TRIM_THRESHOLD, -1) == 1


class PeakMemory:
    """The most memory that this process has held since it was asked last, above what it held then.

    Linux keeps the highest value; writing 5 to `clear_refs` sets it back. What was freed before, and kept (see
    `keep_freed_memory`), is given back first, so that it does not count as held.
    """

    def __init__(self):
        self._idle = _highest_bytes() if self.forget() else None

    def forget(self):
        """Begins anew, above the same idle size. Returns whether the system allows it."""
        gc.collect()
        if platform.libc_ver()[0] == "glibc":
            ctypes.CDLL(None).malloc_trim(0)
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:  # another system, or one that does not allow it
            return False
        return True

    def measure(self):
        """Bytes; None where the system does not tell."""
        return None if self._idle is None else max(0, _highest_bytes() - self._idle)


def _highest_bytes():
    """The most memory that was resident, by the kernel's count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
