"""Memory that a training step frees is kept: no page is asked of the kernel twice."""

import platform
import subprocess
import sys

import pytest

from keras_perceiver.training import memory

SCRIPT = """
import resource
import runpy
import sys

import numpy as np

if len(sys.argv) > 1:  # the module alone: its package would import TensorFlow, which takes seconds
    assert runpy.run_path(sys.argv[1])["keep_freed_memory"]()
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
    for mode, arguments in (("keep", [memory.__file__]), ("leave", [])):
        result = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True)
        faults[mode] = int(result.stdout)
    assert faults["keep"] < faults["leave"] / 10  # with huge pages both are fewer
