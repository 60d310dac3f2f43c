"""Which implementation of the selective scan runs, and why."""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from distill.errors import unknown_name
from students.scan import chunked, cpu, mamba_cuda, triton_kernels
from students.scan.problem import Gradients, Result, Scan, Traits

VARIABLE = "DISTILL_SCAN_BACKEND"
AUTO = "auto"
FALLBACK = "chunked"  # runs anywhere
REFERENCE = "reference"  # differentiated by autograd, so it is no `Backend`


@dataclass(frozen=True)
class Backend:
    """One implementation behind the operators of `students.scan.operator`.

    Args:
        forward: (scan, training) to its result; outside training nothing is kept for the backward pass.
        backward: (gradient of out, gradient of the last state or None, scan, ungated, starts) to the gradients.
        starts_shape: Scan to the shape of `Result.starts` in training. Sizes may be symbolic.
        obstacle: Traits to the reason why the backend cannot run such a scan here; empty when it can. Never raises.
        note: What the backend is, for people.
    """

    forward: Callable[[Scan, bool], Result]
    backward: Callable[[Tensor, Tensor | None, Scan, Tensor, Tensor], Gradients]
    starts_shape: Callable[[Scan], tuple[int, ...]]
    obstacle: Callable[[Traits], str]
    note: str


def _of(module: Any) -> Backend:
    return Backend(module.forward, module.backward, module.starts_shape, module.obstacle, module.NOTE)


def _of_cpu(isa: str) -> Backend:
    kernel = cpu.backend(isa)
    return Backend(kernel.forward, kernel.backward, kernel.starts_shape, kernel.obstacle, kernel.note)


# In order of preference.
BACKENDS: dict[str, Backend] = {
    "triton": _of(triton_kernels),
    "mamba-ssm": _of(mamba_cuda),
    **{f"cpu-{isa}": _of_cpu(isa) for isa in cpu.ISAS},
    FALLBACK: _of(chunked),
}


NAMES = (AUTO, *BACKENDS, REFERENCE)


@dataclass(frozen=True)
class BackendStatus:
    """One row of `explain_backend`."""

    name: str
    active: bool
    reason: str


def choose_backend(requested: str, traits: Traits) -> str:
    """The name of the backend that runs a scan. `torch.compile` asks once, when it compiles.

    Args:
        requested: A name, or "auto" for the first that can run; the environment variable DISTILL_SCAN_BACKEND stands in
            for "auto".
        traits: Of the scan.

    Raises:
        UserError: No such backend.
        ValueError: The backend exists and cannot run this scan.
    """
    t = traits
    return _choose(requested, t.device, t.double, t.complex, t.constant, t.images, t.initial_state)


def _choose(requested: str, *properties: str | bool) -> str:
    """As `choose_backend`, from arguments that are constants to `torch.compile`."""
    traits = Traits(*properties)  # type: ignore[arg-type]
    name = requested if requested != AUTO else os.environ.get(VARIABLE, AUTO)
    if name == AUTO:
        name = next(name for name, backend in BACKENDS.items() if not backend.obstacle(traits))
        if name == FALLBACK and traits == Traits("cpu", images=traits.images, initial_state=traits.initial_state):
            _notice(BACKENDS["cpu-generic"].obstacle(traits))
        return name
    if name == REFERENCE:
        return name
    if name not in NAMES:
        kind = "scan backend" if requested == name else f"scan backend in {VARIABLE}"
        raise unknown_name(kind, name, NAMES)
    if obstacle := BACKENDS[name].obstacle(traits):
        raise ValueError(f"backend is {name!r}, which cannot run this scan: {obstacle}")
    return name


# The mark of `torch.compiler.assume_constant_result`, which as a decorator would import the compiler with the package.
_choose._dynamo_marked_constant = True  # type: ignore[attr-defined]


@cache
def _notice(reason: str) -> None:
    warnings.warn(f"scans on the CPU run in plain PyTorch, about ten times slower: {reason}", stacklevel=2)


def explain_backend(
    device: str | torch.device = "cpu",
    *,
    double: bool = False,
    complex: bool = False,
    constant: bool = False,
    images: bool = False,
    initial_state: bool = False,
) -> list[BackendStatus]:
    """Every backend, whether it is the one that runs a scan of the given kind, and the reason. Never raises.

    Args:
        device: Device or its type, for example "cuda".
        double: Whether the scan is in float64.
        complex: Whether A is complex.
        constant: Whether B or C is constant in time.
        images: Whether it has several directions or an order.
        initial_state: Whether it starts from a given state.
    """
    traits = Traits(str(device).split(":")[0], double, complex, constant, images, initial_state)
    forced = os.environ.get(VARIABLE, AUTO)
    obstacles = {name: backend.obstacle(traits) for name, backend in BACKENDS.items()} | {REFERENCE: ""}
    notes = {name: backend.note for name, backend in BACKENDS.items()} | {
        REFERENCE: "one token after the other, for tests"
    }
    able = [name for name, obstacle in obstacles.items() if not obstacle]
    chosen = able[0] if forced == AUTO else forced
    rows = []
    for name, obstacle in obstacles.items():
        active = name == chosen and not obstacle
        if active:
            reason = notes[name] if forced == AUTO else f"{notes[name]}; set by {VARIABLE}"
        elif obstacle:
            reason = obstacle
        elif name == REFERENCE:
            reason = notes[name]
        elif chosen in able:
            reason = f"available, {chosen} " + ("is preferred" if forced == AUTO else f"is set by {VARIABLE}")
        else:
            reason = f"available, but {VARIABLE} is {forced!r}, which cannot run"
        rows.append(BackendStatus(name, active, reason))
    return rows
