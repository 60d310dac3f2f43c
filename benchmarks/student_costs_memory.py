"""Peak memory of one pass of one model, in a process that does nothing else; for `student_costs.py`, on Linux."""

import resource
import time

import torch
from student_costs_models import forward, larger, sam_large, smallest

from distill.process_memory import forget_peak, process_bytes
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
    limit = int(SHARE * process_bytes("MemAvailable", "/proc/meminfo")) + process_bytes("VmData")
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
    before = process_bytes("VmRSS")
    build = (smallest() | larger() | sam_large())[name]
    model, images = build(size).eval(), torch.randn(1, 3, size, size)
    forgets = forget_peak()  # what building the model needed
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
    return seconds, process_bytes("VmHWM") - before if forgets else None
