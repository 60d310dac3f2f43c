"""What a run changes of the process that it is started from, and restores."""

import pytest
import torch

from distill.launch.process import contained


def smallest() -> float:
    """A denormal number after a multiplication."""
    return float(torch.full((8,), 1e-40).mul(1.0).max())


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot flush denormal numbers")
@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_flushed_inside_alone(before: bool) -> None:
    torch.set_flush_denormal(before)
    try:
        with contained():
            assert smallest() == 0
        assert (smallest() == 0) == before
    finally:
        torch.set_flush_denormal(False)
