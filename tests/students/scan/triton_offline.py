"""Compiles every Triton program of a few scans for an NVIDIA Hopper GPU, which need not be there.

Prints as JSON the registers that a thread takes and the bytes that it spills to memory.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from students.scan.problem import Scan
from students.scan.triton import backward, forward, launch


class Hopper:
    """The part of a Triton driver that compiling needs."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


def resources(cubin: bytes) -> dict[str, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK", "LOCAL")}  # type: ignore[index]


def compile_scan(states: int, dtype: torch.dtype, rank: int = 0) -> dict[str, dict[str, int]]:
    """Every program of both passes over a scan with segments: with a rank that of an image, else of a sequence."""
    found = {}

    def compile_only(self: Any, kernel: str, *arguments: Any, grid: object = None, **constants: object) -> None:
        program = getattr(self.code, kernel)
        options = {"num_warps": 1, "enable_fp_fusion": True, "grid": (1, 1)}
        compiled = program.warmup(self.inputs, *arguments, F=self.config, **constants, **options)
        found[f"{kernel} rows {self.config.rows} lanes {self.config.lanes}"] = resources(compiled.asm["cubin"])

    launch.Launch.run = compile_only  # type: ignore[method-assign]
    launch._multiprocessors = lambda device: 132  # type: ignore[assignment]
    image = rank > 0
    k, p, d = (2 if image else 1), 256, 192

    def zeros(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype)

    full = torch.float32
    scan = Scan(
        u=zeros(1, 1, p, d),
        delta=zeros(1, k, p, rank or d),
        delta_weight=zeros(k, d, rank, dtype=full) if image else None,
        A=zeros(k, d, states, dtype=full),
        B=zeros(1, k, 1, p, states),
        C=zeros(1, k, 1, p, states),
        D=zeros(k, d, dtype=full),
        z=zeros(1, p, d),
        delta_bias=zeros(k, d, dtype=full),
        initial_state=None if image else zeros(1, k, d, states, dtype=full),
        order=torch.stack([torch.arange(p), torch.arange(p).flip(0)]).int() if image else None,
        delta_softplus=True,
        scale=1.0,
    )
    result = forward(scan, training=True)
    backward(result.out, None, scan, result.ungated, result.starts)
    return found


if __name__ == "__main__":
    driver.set_active(Hopper())
    report = {
        "image, 16 states, bfloat16": compile_scan(16, torch.bfloat16, rank=12),
        "image, rank 48, bfloat16": compile_scan(16, torch.bfloat16, rank=48),
        "sequence, 3 states, float32": compile_scan(3, torch.float32),
        "sequence, 64 states, float32": compile_scan(64, torch.float32),
    }
    print(json.dumps(report))
