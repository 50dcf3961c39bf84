"""What a process frees between blocks in use goes back to the system."""

import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
from dictlearn.runs import _heap

def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))

before = resident()
blocks = [np.ones(12_500) for _ in range(2_000)]
blocks = blocks[::50]
freed = resident()
_heap.trim()
print(before, freed, resident())
assert all(block.sum() == 12_500 for block in blocks)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_between_blocks_in_use_is_given_back():
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    before, freed, trimmed = map(float, ran.stdout.split())
    assert freed - before > 150  # the C library keeps nearly all of 200 MB
    assert trimmed - before < 40
