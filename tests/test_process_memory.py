"""What Linux tells of this process's memory."""

from pathlib import Path

import numpy as np
import pytest

from distill.process_memory import forget_peak, process_bytes


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux alone tells")
def test_a_peak_is_seen_and_forgotten() -> None:
    if not forget_peak():
        pytest.skip("this system does not count peaks anew")
    before, size = process_bytes("VmHWM"), 64 * 2**20
    np.ones(size, np.uint8)  # of which nothing is kept
    assert process_bytes("VmHWM") - before > size / 2
    forget_peak()
    assert process_bytes("VmHWM") - before < size / 2


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert process_bytes("VmRSS", str(tmp_path / "none")) == 0
