"""Peak memory of one forward and backward pass of a scan.

python benchmarks/scan_memory.py PEER   # MiB of one peer on the CPU; `scan.py --memory` runs it for each
"""

import os
import subprocess
import sys

import torch
from measuring import Candidate, console
from scan_checks import BOTH, bind, checked
from scan_peers import Peer, available_peers

from distill.process_memory import forget_peak, process_bytes

MEMORY_SIZE = {"cpu": (1, 1024, 192), "cuda": (8, 1024, 768)}


def main() -> None:
    torch.set_num_threads(1)
    print(peak_on_cpu(available_peers("cpu")[0][sys.argv[1]]))


def peak(name: str, peer: Peer, device: str) -> float | str:
    """MiB that a peer, which is checked first, adds to what its inputs take; without, what to print in its place."""
    problem = checked(name, peer, MEMORY_SIZE[device], device, BOTH)
    if isinstance(problem, str):
        return problem
    if device == "cuda":
        return peak_on_cuda(problem)
    if not forget_peak():
        return "this system does not count peaks anew"
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # freed tensors leave the process at once
    command = [sys.executable, __file__, name]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        console.print(f"{name}: {(result.stderr.strip().splitlines() or ['no message'])[-1]}")
        return "failed"
    return float(result.stdout)


def peak_on_cpu(peer: Peer) -> float:
    """Growth of the resident memory of this process, after a small run that loads what the peer needs."""
    bind(BOTH, peer, (1, 32, 16), "cpu")()
    run = bind(BOTH, peer, MEMORY_SIZE["cpu"], "cpu")
    forget_peak()
    before = process_bytes("VmHWM")
    run()
    return (process_bytes("VmHWM") - before) / 2**20


def peak_on_cuda(problem: Candidate) -> float:
    """Growth of the memory of PyTorch's allocator, in a run that is not the first."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    problem.run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


if __name__ == "__main__":
    main()
