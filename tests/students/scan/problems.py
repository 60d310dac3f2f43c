"""Scans to test backends with, and what the float64 reference computes for them.

Axes: as in `students.scan.problem`.
"""

from dataclasses import dataclass, fields, replace
from functools import cache

import torch
from torch import Tensor

from students.scan.backends import BACKENDS
from students.scan.interface import run_scan
from students.scan.orders import scan_order
from students.scan.problem import Gradients, Scan

DIFFERENTIABLE = tuple(field.name for field in fields(Gradients))


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


def run(scan: Scan, backend: str) -> dict[str, Tensor]:
    """Output, last state and every gradient, under fixed random gradients of the first two."""
    leaves = {
        name: x.detach().clone().requires_grad_() for name in DIFFERENTIABLE if (x := getattr(scan, name)) is not None
    }
    out, last = run_scan(replace(scan, **leaves), backend)
    random = torch.Generator().manual_seed(0)
    weights = [torch.randn(x.shape, generator=random, dtype=torch.float64).to(x.dtype) for x in (out, last)]
    found = torch.autograd.grad((out, last), tuple(leaves.values()), weights)
    gradients = {f"gradient of {name}": x for name, x in zip(leaves, found, strict=True)}
    return {"out": out.detach(), "last_state": last.detach()} | gradients


@cache
def expected(problem: Problem) -> dict[str, Tensor]:
    """What the reference computes in float64."""
    return run(build(problem), "reference")


def cast(scan: Scan, dtype: torch.dtype) -> Scan:
    """The scan with its tensors in another dtype; parameters of states stay in float32 at least."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    changed = {}
    for name in DIFFERENTIABLE:
        x = getattr(scan, name)
        if x is not None:
            narrow = dtype if name in ("u", "delta", "B", "C", "z") and not x.is_complex() else wide
            changed[name] = x.to(narrow.to_complex() if x.is_complex() else narrow)
    return replace(scan, **changed)


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float, where: str = "") -> None:
    """Each tensor within `tolerance` of the other, relative to its entries and to the largest of them."""
    assert found.keys() == wanted.keys()
    for name, x in found.items():
        exact = wanted[name].to(torch.complex128 if x.is_complex() else torch.float64)
        assert torch.isfinite(exact).all(), f"{name} is no test"
        largest = float(exact.abs().max()) if exact.numel() else 0.0
        torch.testing.assert_close(
            x.to(exact.dtype),
            exact,
            rtol=tolerance,
            atol=tolerance * largest,
            msg=lambda text, name=name: f"{where} {name}: {text}",
        )


def able(problem: Problem, dtype: torch.dtype) -> list[str]:
    """The backends that run a problem on this CPU, except Triton's interpreter, which has its own tests."""
    traits = cast(build(problem), dtype).traits
    return [name for name, backend in BACKENDS.items() if name != "triton" and not backend.obstacle(traits)]
