"""Scans to test backends with on any device, and what the float64 reference computes for them.

Axes: as in `students.scan.problem`.
"""

from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from students.scan.backends import BACKENDS
from students.scan.interface import run_scan
from students.scan.orders import scan_order
from students.scan.problem import Gradients, Scan, Traits

DIFFERENTIABLE = tuple(field.name for field in fields(Gradients))
CHANNELS = (1, 15, 16, 17, 192, 200)
LENGTHS = (1, 2, 31, 32, 33, 65, 197, 1023, 3136)
STATES = (1, 3, 8, 16, 64)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 2e-2}


@dataclass(frozen=True)
class Problem:
    """What to draw at random: a sequence, or with `order` an image.

    Args:
        rank: Of Δ; 0 for Δ as it is.
        decay: "normal"; "stiff", down to exp(-320) per step; "zero", A = 0; "growing", A > 0.
        dtype: In which the values are representable.
    """

    channels: int = 6
    length: int = 33
    states: int = 3
    batch: int = 2
    groups: int = 1
    order: str | None = None
    grid: tuple[int, int] = (1, 1)
    shared: bool = True
    rank: int = 0
    skip: bool = True
    gate: bool = True
    bias: bool = True
    softplus: bool = True
    initial_state: bool = False
    complex: bool = False
    constant_B: bool = False
    constant_C: bool = False
    mean: bool = False
    decay: str = "normal"
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        """The fields that differ from the default."""
        changed = [field for field in fields(self) if getattr(self, field.name) != field.default]
        return ",".join(f"{field.name}={getattr(self, field.name)}" for field in changed) or "default"

    def traits(self, dtype: torch.dtype, device: str) -> Traits:
        """Those of the scan, without drawing it."""
        constant = self.constant_B or self.constant_C
        return Traits(device, dtype == torch.float64, self.complex, constant, initial_state=self.initial_state)


@cache
def build(problem: Problem) -> Scan:
    """The scan of a problem in float64."""
    p = problem
    random = torch.Generator().manual_seed(1000 * p.length + p.channels + p.states)
    order = None if p.order is None else scan_order(p.order, *p.grid)
    length = p.length if order is None else p.grid[0] * p.grid[1]
    K = 1 if order is None else len(order)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(p.dtype).double()

    def states(*shape: int) -> Tensor:
        return torch.complex(normal(*shape), normal(*shape)) if p.complex else normal(*shape)

    def weights(constant: bool) -> Tensor:
        return states(K, p.channels, p.states) if constant else states(p.batch, K, p.groups, length, p.states)

    delta = normal(p.batch, K, length, p.rank or p.channels)
    A = -states(K, p.channels, p.states).abs() + (1j * normal(K, p.channels, p.states) if p.complex else 0)
    if not p.softplus:
        delta = delta.abs() * 0.25
    if p.decay == "stiff":
        delta = torch.linspace(0, 5, delta.numel(), dtype=torch.float32).double().view(delta.shape)
        A = -torch.linspace(0, 64, A.numel(), dtype=torch.float32).double().view(A.shape)
    elif p.decay == "zero":
        A = torch.zeros_like(A)
    elif p.decay == "growing":
        A = torch.full_like(A, 0.03125)
    return Scan(
        u=normal(p.batch, 1 if p.shared else K, length, p.channels),
        delta=delta,
        delta_weight=normal(K, p.channels, p.rank) * 0.5 if p.rank else None,
        A=A,
        B=weights(p.constant_B),
        C=weights(p.constant_C),
        D=normal(K, p.channels) if p.skip else None,
        z=normal(p.batch, length, p.channels) if p.gate else None,
        delta_bias=normal(K, p.channels).abs() * 0.25 if p.bias else None,
        initial_state=states(p.batch, K, p.channels, p.states) if p.initial_state else None,
        order=order,
        delta_softplus=p.softplus,
        scale=1 / K if p.mean else 1.0,
    )


def cast(scan: Scan, dtype: torch.dtype, device: str = "cpu") -> Scan:
    """The scan with its tensors in another dtype, on a device; parameters of states stay in float32 at least."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    changed: dict[str, Any] = {"order": None if scan.order is None else scan.order.to(device)}
    for name in DIFFERENTIABLE:
        x = getattr(scan, name)
        if x is not None:
            narrow = dtype if name in ("u", "delta", "B", "C", "z") and not x.is_complex() else wide
            changed[name] = x.to(device, narrow.to_complex() if x.is_complex() else narrow)
    return replace(scan, **changed)


def run(scan: Scan, backend: str, last: bool = True) -> dict[str, Tensor]:
    """Output, last state and every gradient, for fixed random gradients of the output and, if `last`, of the state."""
    leaves = {
        name: x.detach().clone().requires_grad_() for name in DIFFERENTIABLE if (x := getattr(scan, name)) is not None
    }
    results = run_scan(replace(scan, **leaves), backend)
    random = torch.Generator().manual_seed(0)
    weights = [torch.randn(x.shape, generator=random, dtype=torch.float64).to(x.device, x.dtype) for x in results]
    outputs = 2 if last else 1
    found = torch.autograd.grad(results[:outputs], tuple(leaves.values()), weights[:outputs])
    gradients = {f"gradient of {name}": x for name, x in zip(leaves, found, strict=True)}
    return {"out": results[0].detach(), "last_state": results[1].detach()} | gradients


@cache
def expected(problem: Problem, last: bool = True) -> dict[str, Tensor]:
    """What the reference computes in float64 on the CPU."""
    return run(build(problem), "reference", last)


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float, where: str = "") -> None:
    """Each tensor within `tolerance` of the other, relative to its entries and to the largest of them."""
    assert found.keys() == wanted.keys()
    for name, x in found.items():
        exact = wanted[name].to(torch.complex128 if x.is_complex() else torch.float64)
        assert torch.isfinite(exact).all(), f"{name} is no test"
        largest = float(exact.abs().max()) if exact.numel() else 0.0
        torch.testing.assert_close(
            x.to(exact),
            exact,
            rtol=tolerance,
            atol=tolerance * largest,
            msg=lambda text, name=name: f"{where} {name}: {text}",
        )


def check(
    problem: Problem,
    dtype: torch.dtype,
    backend: str,
    device: str = "cpu",
    *,
    last: bool = True,
    tolerance: float | None = None,
) -> None:
    """Runs a problem on a backend and compares with the reference, by default to the tolerance of the dtype."""
    if tolerance is None:
        tolerance = TOLERANCE[dtype]
        if dtype == torch.float32:  # a state that hardly decays adds up the errors of all exponentials, two ulps each
            tolerance += 2**-22 * problem.length
    assert_close(run(cast(build(problem), dtype, device), backend, last), expected(problem, last), tolerance)


def able(problem: Problem, dtype: torch.dtype, device: str = "cpu") -> list[str]:
    """The backends that run a problem on a device, except Triton's interpreter, which has its own tests."""
    traits = problem.traits(dtype, device)
    names = [name for name in BACKENDS if device != "cpu" or name != "triton"]
    return [name for name in names if not BACKENDS[name].obstacle(traits)]


def cases(problems: list[Problem], *dtypes: torch.dtype, device: str = "cpu") -> list[Any]:
    """Parameters (problem, dtype, backend) for every backend of the device that runs a problem.

    One worker takes all of a problem, since the reference is computed once a process.
    """
    return [
        pytest.param(
            problem,
            dtype,
            backend,
            id=f"{problem}-{str(dtype).removeprefix('torch.')}-{backend}",
            marks=pytest.mark.xdist_group(str(problem)),
        )
        for problem in problems
        for dtype in dtypes
        for backend in able(problem, dtype, device)
    ]


def grid() -> list[Problem]:
    """Every pair of two sizes, with options that change from one to the next."""
    problems = []
    for i, channels in enumerate(CHANNELS):
        for j, length in enumerate(LENGTHS):
            problems.append(
                Problem(
                    channels=channels,
                    length=length,
                    states=STATES[(i + j) % len(STATES)],
                    batch=1 if channels * length > 2**14 else 2,
                    groups={15: 3, 16: 2, 192: 4, 200: 2}.get(channels, 1) if j % 2 else 1,
                    skip=(i + j) % 3 > 0,
                    gate=(i + j) % 2 > 0,
                    bias=(i + j) % 4 > 0,
                    initial_state=(i + 2 * j) % 3 == 0,
                )
            )
    return problems


OPTIONS = [
    Problem(),
    Problem(skip=False),
    Problem(gate=False),
    Problem(bias=False),
    Problem(softplus=False),
    Problem(softplus=False, bias=False, skip=False, gate=False),
    Problem(initial_state=True),
    Problem(groups=2, initial_state=True),
    Problem(groups=6),
    Problem(rank=2),
    Problem(rank=2, bias=False, softplus=False),
    Problem(batch=0),
    Problem(batch=0, initial_state=True, groups=3),
]
STATE_OPTIONS = [
    Problem(complex=complex, constant_B=constant_B, constant_C=constant_C, groups=groups, initial_state=initial_state)
    for complex in (False, True)
    for constant_B, constant_C, groups, initial_state in (
        (False, False, 2, True),
        (True, False, 2, False),
        (False, True, 3, True),
        (True, True, 1, True),
    )
]
IMAGES = [
    Problem(channels=17, order="bidirectional", grid=(5, 7), gate=True, mean=True),
    Problem(channels=17, order="bidirectional", grid=(33, 3), rank=3, states=16),
    Problem(channels=16, order="cross", grid=(5, 7), rank=3, shared=False),
    Problem(channels=5, order="cross", grid=(1, 1), bias=False, softplus=False),
    Problem(channels=6, order="snake", grid=(4, 9), groups=2, skip=False, initial_state=True),
    Problem(channels=6, order="window:3", grid=(5, 7), shared=False, gate=False, mean=True),
    Problem(channels=6, order="atrous", grid=(5, 7), rank=2, initial_state=True),
    Problem(channels=6, order="atrous", grid=(5, 7), softplus=False, shared=False),
    Problem(channels=6, order="atrous:3", grid=(2, 5), gate=False),
    Problem(channels=6, order="cross", grid=(2, 3), rank=2, batch=0),
    Problem(channels=6, order="cross", grid=(3, 4), complex=True, groups=2),
    Problem(channels=6, order="atrous", grid=(3, 5), complex=True, constant_B=True, softplus=False),
    Problem(channels=6, order="snake", grid=(3, 5), constant_C=True, rank=2),
]
