"""Which implementation of the selective scan runs, and why."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from distill.errors import unknown_name
from students.scan import chunked

VARIABLE = "DISTILL_SCAN_BACKEND"
REFERENCE = "reference"  # differentiated by autograd, so it is no `Backend`


@dataclass(frozen=True)
class Backend:
    """One implementation behind the operators of `students.scan.operator`.

    Args:
        forward: (u, delta, A, B, C, D, delta_bias, delta_softplus) to (out, last state, starts), where `starts` holds
            the states before each block of time, from which the backward pass recomputes the others.
        backward: (grad_out, grad_last, the inputs of `forward`, starts) to the gradients of its seven tensors.
        blocks: (batch, channels per group, states, length, device type) to the number of blocks in `starts`.
        obstacle: Device type to the reason why the backend cannot run there; empty when it can.
        note: What the backend is, for people.
    """

    forward: Callable[..., tuple[Tensor, Tensor, Tensor]]
    backward: Callable[..., tuple[Tensor, ...]]
    blocks: Callable[[int, int, int, int, str], int]
    obstacle: Callable[[str], str]
    note: str


# In order of preference.
BACKENDS: dict[str, Backend] = {
    "chunked": Backend(
        forward=chunked.forward,
        backward=chunked.backward,
        blocks=lambda *problem: chunked.plan_blocks(*problem).blocks,
        obstacle=lambda device: "",
        note="plain PyTorch, any device",
    ),
}


@dataclass(frozen=True)
class BackendStatus:
    """One row of `explain_backend`."""

    name: str
    active: bool
    reason: str


def choose_backend(requested: str, device: str) -> str:
    """The name of the backend that runs on a device type.

    Args:
        requested: A name, or "auto" for the first that can run; the environment variable DISTILL_SCAN_BACKEND stands in
            for "auto".
        device: Device type, for example "cuda".

    Raises:
        UserError: No such backend.
        ValueError: The backend exists and cannot run on this device.
    """
    name = requested if requested != "auto" else os.environ.get(VARIABLE, "auto")
    if name == "auto":
        return next(name for name, backend in BACKENDS.items() if not backend.obstacle(device))
    if name != REFERENCE:
        if name not in BACKENDS:
            raise unknown_name("scan backend", name, ["auto", *BACKENDS, REFERENCE])
        if obstacle := BACKENDS[name].obstacle(device):
            raise ValueError(f"scan backend {name!r} cannot run on {device}: {obstacle}")
    return name


def explain_backend(device: str = "cpu") -> list[BackendStatus]:
    """Every backend, whether it is the one that runs on this device type, and the reason."""
    chosen = choose_backend("auto", device)
    forced = f"set by {VARIABLE}" if os.environ.get(VARIABLE, "auto") != "auto" else ""
    rows = []
    for name, backend in BACKENDS.items():
        obstacle = backend.obstacle(device)
        idle = obstacle or "available, another is preferred"
        rows.append(BackendStatus(name, name == chosen, (forced or backend.note) if name == chosen else idle))
    reason = forced if chosen == REFERENCE else "one token after the other, for tests"
    return [*rows, BackendStatus(REFERENCE, chosen == REFERENCE, reason)]
