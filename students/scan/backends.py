"""Chooses the implementation of the selective scan, and explains the choice."""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from distill.errors import unknown_name
from students.scan import chunked, cpu, mamba_cuda, triton
from students.scan.errors import ScanArgumentError
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


def _of(kernel: Any) -> Backend:
    return Backend(kernel.forward, kernel.backward, kernel.starts_shape, kernel.obstacle, kernel.NOTE)


# In order of preference.
BACKENDS: dict[str, Backend] = {
    "triton": _of(triton),
    "mamba-ssm": _of(mamba_cuda),
    **{f"cpu-{isa}": _of(cpu.CpuBackend(isa)) for isa in cpu.ISAS},
    FALLBACK: _of(chunked),
}
NAMES = (AUTO, *BACKENDS, REFERENCE)

# By device: how people call it, how many times slower the fallback is, and the backend that is expected instead.
_EXPECTED = {"cpu": ("the CPU", "about ten", "cpu-generic"), "cuda": ("CUDA", "many", "triton")}


@dataclass(frozen=True)
class BackendStatus:
    """One row of `explain_backend`."""

    name: str
    active: bool
    reason: str


def choose_backend(requested: str, traits: Traits) -> str:
    """The name of the backend that runs a scan. `torch.compile` asks once, when it compiles.

    Args:
        requested: A name, or "auto" for the first that can run; the environment variable DISTILL_SCAN_BACKEND, where it
            is set and not empty, stands in for "auto".
        traits: Of the scan.

    Raises:
        ScanArgumentError: No such backend, or one that cannot run this scan.
    """
    t = traits
    return _choose(requested, t.device, t.double, t.complex, t.constant, t.initial_state)


def _choose(requested: str, *properties: str | bool) -> str:
    """As `choose_backend`, from arguments that are constants to `torch.compile`."""
    traits = Traits(*properties)  # type: ignore[arg-type]
    name = _find(requested, traits)
    plain = replace(traits, initial_state=False) == Traits(traits.device)
    if name == FALLBACK and _requested(requested) == AUTO and plain and traits.device_type in _EXPECTED:
        where, factor, missing = _EXPECTED[traits.device_type]
        _notice(f"scans on {where} run in plain PyTorch, {factor} times slower: {BACKENDS[missing].obstacle(traits)}")
    return name


# The mark of `torch.compiler.assume_constant_result`, which as a decorator would import the compiler with the package.
_choose._dynamo_marked_constant = True  # type: ignore[attr-defined]


@cache
def _notice(message: str) -> None:
    warnings.warn(message, stacklevel=2)


def _requested(backend: str) -> str:
    """What is asked for, by the argument or in its place by the environment."""
    return backend if backend != AUTO else os.environ.get(VARIABLE) or AUTO


def _find(backend: str, traits: Traits) -> str:
    """The name of the backend that runs a scan.

    Raises:
        ScanArgumentError: See `choose_backend`.
    """
    name = _requested(backend)
    if name == AUTO:
        return next(name for name, backend in BACKENDS.items() if not backend.obstacle(traits))
    if name not in NAMES:
        kind = "scan backend" if backend == name else f"scan backend in {VARIABLE}"
        raise ScanArgumentError(str(unknown_name(kind, name, NAMES)))
    if name != REFERENCE and (obstacle := BACKENDS[name].obstacle(traits)):
        origin = "backend" if backend == name else VARIABLE
        raise ScanArgumentError(
            f"{origin} is {name!r}, which cannot run this scan: {obstacle}; {AUTO!r} takes the fastest that can"
        )
    return name


def explain_backend(
    device: str | torch.device = "cpu",
    *,
    double: bool = False,
    complex: bool = False,
    constant: bool = False,
    initial_state: bool = False,
) -> list[BackendStatus]:
    """Every backend, whether it is the one that runs a scan of the given kind, and the reason. Never raises.

    Args:
        device: Device or its type, for example "cuda:1" or "cuda", the current GPU.
        double: Whether the scan is in float64.
        complex: Whether A is complex.
        constant: Whether B or C is constant in time.
        initial_state: Whether it starts from a given state.
    """
    traits = Traits(str(device), double, complex, constant, initial_state)
    forced = _requested(AUTO)
    try:
        chosen = _find(AUTO, traits)
    except ScanArgumentError:
        chosen, others = "", f"available, but {VARIABLE} is {forced!r}, which cannot run"
    else:
        others = f"available, {chosen} is " + ("preferred" if forced == AUTO else f"set by {VARIABLE}")
    rows = []
    for name in NAMES[1:]:
        note, obstacle = "one token after the other, for tests", ""
        if name != REFERENCE:
            note, obstacle = BACKENDS[name].note, BACKENDS[name].obstacle(traits)
        if name == chosen:
            reason = note if forced == AUTO else f"{note}; set by {VARIABLE}"
        else:
            reason = obstacle or (note if name == REFERENCE else others)
        rows.append(BackendStatus(name, name == chosen, reason))
    return rows
