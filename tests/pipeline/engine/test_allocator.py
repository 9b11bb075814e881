"""Memory that is freed is used again without the kernel."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from pipeline.engine.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    tensors = [bytearray(2**24 if i % 2 else 2**26) for i in range(6)]  # glibc maps those over 32 MiB one by one
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
ONCE = 3 * (2**24 + 2**26) // 4096  # pages of the tensors of one round, if they are of 4 kB


def faults(setting: str) -> int:
    command = [sys.executable, "-c", FAULTS, setting]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_what_was_freed_costs_no_page_faults_again() -> None:
    assert faults("kept") < 2 * ONCE
