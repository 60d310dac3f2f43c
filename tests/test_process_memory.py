"""What Linux tells of this process's memory."""

from mmap import PAGESIZE, mmap
from pathlib import Path

import pytest

from distill.process_memory import forget_peak, process_bytes


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux alone tells")
def test_a_peak_is_seen_and_forgotten() -> None:
    if not forget_peak():
        pytest.skip("this system does not count peaks anew")
    size = 64 * 2**20
    with mmap(-1, size) as pages:  # which the process gives back, unlike what it frees
        for page in range(0, size, PAGESIZE):
            pages[page] = 1
    peak = process_bytes("VmHWM")
    assert peak - process_bytes("VmRSS") > size / 2
    forget_peak()
    assert process_bytes("VmHWM") < peak - size / 2


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert process_bytes("VmRSS", str(tmp_path / "none")) == 0
