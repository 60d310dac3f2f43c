"""Memory that was freed is found again, without its pages being cleared anew."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from distill.training.allocator import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def allocate(times):
    for _ in range(times):
        torch.ones(2**24)  # 64 MiB, more than glibc keeps by itself

def again():
    allocate(20)
    before = faults()
    allocate(20)
    return faults() - before

returned = again()
assert keep_freed_memory()
print(returned, again())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_pages_are_found_again() -> None:
    """Page faults of allocations in a fresh process, after others of their size were freed."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    returned, kept = map(int, done.stdout.split())
    if returned < 10_000:
        pytest.skip("pages are large here, or malloc is not glibc's")
    assert kept < returned / 10
