"""`selective_scan`: the entry for sequences, with mamba-ssm's positional arguments.

Axes: B batch, K directions, P tokens, D channels, G groups, N states, L time.
"""

from dataclasses import fields
from typing import Literal, overload

import torch
from torch import Tensor

from students.scan.backends import AUTO, REFERENCE, choose_backend
from students.scan.checks import check_sequences
from students.scan.layout import from_channel_first
from students.scan.operator import scan_forward
from students.scan.problem import Scan
from students.scan.reference import scan_reference


@overload
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: Literal[False] = False,
    *,
    initial_state: Tensor | None = None,
    backend: str = "auto",
) -> Tensor: ...
@overload
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    return_last_state: Literal[True],
    initial_state: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]: ...
@overload
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    *,
    initial_state: Tensor | None = None,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]: ...
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    *,
    initial_state: Tensor | None = None,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """h_t = exp(Δ_t A) h_{t-1} + Δ_t u_t B_t;  y_t = C_t h_t + D u_t;  the output is y, or y silu(z).

    At a complex A, C_t h_t stands for 2 Re(C_t h_t). Computes in float32 (float64 for float64 `u`) whatever the inputs
    and autocast are. Unlike in mamba-ssm the last state carries gradients, the inputs may have any strides, and their
    dtypes may differ. No second derivatives, except from backend "reference".

    Args:
        u: (B, D, L).
        delta: (B, D, L), Δ before bias and softplus.
        A: (D, N), real or complex, the real part normally negative.
        B: (B, N, L), or (B, G, N, L) with G dividing D: channel d reads group d // (D / G). At a complex A the last
            axis is 2L, real and imaginary parts in turn. Or constant in time: (D, N), complex where A is.
        C: As `B`, with as many groups.
        D: (D,), the skip connection.
        z: (B, D, L), the gate.
        delta_bias: (D,), added to `delta`.
        delta_softplus: Whether Δ = softplus(delta + delta_bias).
        return_last_state: Whether to return (output, h_L).
        initial_state: (B, D, N), h_0, complex where A is; zero by default.
        backend: "auto", "reference" or a name that `explain_backend` lists.

    Returns:
        The output (B, D, L) in u's dtype; with `return_last_state` also h_L (B, D, N) in the dtype of the computation.

    Raises:
        ValueError: An argument has the wrong type, shape, dtype or device.
        ScanArgumentError: A backend that does not exist or cannot run this scan. It is a `ValueError` and a
            `UserError`.
    """
    check_sequences(u, delta, A, B, C, D, z, delta_bias, initial_state)
    scan = from_channel_first(u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state)
    out, last = run_scan(scan, backend)
    return (out.mT, last.squeeze(1)) if return_last_state else out.mT


def run_scan(scan: Scan, backend: str) -> tuple[Tensor, Tensor]:
    """Outputs (B, P, D) and last states (B, K, D, N) of a checked scan, by the backend of that name or "auto"."""
    name = choose_backend(backend, scan.traits)
    if name == REFERENCE:
        return scan_reference(scan)
    arguments = [getattr(scan, field.name) for field in fields(scan)]
    tensors = [x for x in arguments if isinstance(x, Tensor)]
    training = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    if torch.compiler.is_compiling() and backend == AUTO and not training:
        name = AUTO  # each call chooses: an exported program may run on another machine
    out, last, _, _ = scan_forward(*arguments, training, name)
    return out, last
