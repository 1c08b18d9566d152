"""Memory that a training step frees is kept: no page is asked of the kernel twice."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import sys

import numpy as np
from keras_perceiver.training.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
faults = []
for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(50_000_000, np.uint8)  # 12,207 pages
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is a setting of glibc")
def test_a_block_that_was_freed_costs_no_page_faults_the_next_time():
    faults = {}
    for mode in ("keep", "leave"):
        result = subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True)
        faults[mode] = int(result.stdout)
    assert faults["keep"] < faults["leave"] / 10  # with huge pages both are fewer
