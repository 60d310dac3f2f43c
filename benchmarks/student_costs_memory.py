"""Peak memory of one pass of one model, in a process that does nothing else; for `student_costs.py`, on Linux."""

import resource
import time
from pathlib import Path

import torch
from student_costs_models import forward, larger, sam_large, smallest

from distill.training.allocator import keep_freed_memory

SHARE = 0.8  # of the free memory


def peak_of_a_pass(name: str, size: int) -> tuple[float, float | None]:
    """Seconds of a first pass on one thread, and bytes of weights and pass at their peak where the system tells.

    Args:
        name: Of a model.
        size: Side of the image in pixels.

    Raises:
        MemoryError: The pass needs more than a share of what is free.
        ValueError: What came out is not finite, so that its time would mean nothing.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    forward(torch.nn.Conv2d(3, 8, 3), torch.randn(1, 3, 8, 8))  # loads the libraries of convolutions
    limit = int(SHARE * _bytes("/proc/meminfo", "MemAvailable")) + _bytes("/proc/self/status", "VmData")
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
    before = _bytes("/proc/self/status", "VmRSS")
    build = (smallest() | larger() | sam_large())[name]
    model, images = build(size).eval(), torch.randn(1, 3, size, size)
    forgets = _forget_peak()
    start = time.perf_counter()
    try:
        output = forward(model, images)
    except RuntimeError as error:
        if "allocate memory" in str(error):
            raise MemoryError(str(error)) from None
        raise
    seconds = time.perf_counter() - start
    if not all(part.isfinite().all() for part in (output if isinstance(output, list) else [output])):
        raise ValueError(f"{name} returned numbers at {size} px that are not finite")
    return seconds, _bytes("/proc/self/status", "VmHWM") - before if forgets else None


def _forget_peak() -> bool:
    """Whether the system lets the process forget what building the model needed."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return False
    return True


def _bytes(file: str, key: str) -> int:
    line = next(line for line in Path(file).read_text(encoding="utf-8").splitlines() if line.startswith(f"{key}:"))
    return 1024 * int(line.split()[1])
