"""The memory that a training step frees and asks for again."""

import ctypes
import platform

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
