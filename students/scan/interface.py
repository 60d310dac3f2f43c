"""`selective_scan`: the one entry to every implementation, with mamba-ssm's positional arguments.

Axes: B batch, D channels, G groups, N states, L time.
"""

from typing import Literal, overload

import torch
from torch import Tensor
from torch.nn import functional as F

from students.scan.backends import REFERENCE, choose_backend
from students.scan.operator import scan_forward
from students.scan.reference import selective_scan_reference


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
    return_last_state: bool = False,
    *,
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
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """h_t = exp(Δ_t A) h_{t-1} + Δ_t u_t B_t;  y_t = C_t h_t + D u_t;  the output is y, or y silu(z).

    Computes in float32 (float64 for float64 `u`) whatever the inputs and autocast are. Unlike in mamba-ssm the last
    state carries gradients, the inputs may have any strides, and their dtypes may differ. No second derivatives.

    Args:
        u: (B, D, L).
        delta: (B, D, L), Δ before bias and softplus.
        A: (D, N), real, normally negative.
        B: (B, N, L), or (B, G, N, L) with G dividing D: channel d reads group d // (D / G).
        C: Shape of `B`.
        D: (D,), the skip connection.
        z: (B, D, L), the gate.
        delta_bias: (D,), added to `delta`.
        delta_softplus: Whether Δ = softplus(delta + delta_bias).
        return_last_state: Whether to return (output, h_L).
        backend: "auto", "chunked" or "reference"; see `explain_backend`.

    Returns:
        The output (B, D, L) in u's dtype; with `return_last_state` also h_L (B, D, N) in the dtype of the computation.

    Raises:
        ValueError: An argument has the wrong type, shape, dtype or device.
        UserError: No such backend.
    """
    if B.dim() == 3:
        B = B.unsqueeze(1)
    if C.dim() == 3:
        C = C.unsqueeze(1)
    _check(u, delta, A, B, C, D, z, delta_bias)
    name = choose_backend(backend, u.device.type)
    if name == REFERENCE:
        out, last = selective_scan_reference(u, delta, A, B, C, D, delta_bias, delta_softplus)
    else:
        out, last, _ = scan_forward(u, delta, A, B, C, D, delta_bias, delta_softplus, name)
    if z is not None:
        out = (out * F.silu(z.to(last.dtype))).to(u.dtype)
    return (out, last) if return_last_state else out


def _check(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
) -> None:
    if u.dim() != 3 or u.shape[1] < 1 or u.shape[2] < 1:
        raise ValueError(f"u has shape {tuple(u.shape)}, expected (B, D, L) with D and L at least 1")
    if A.dim() != 2 or A.shape[0] != u.shape[1] or A.shape[1] < 1:
        raise ValueError(f"A has shape {tuple(A.shape)}, expected (D, N) with D = {u.shape[1]}, the channels of u")
    batch, channels, length = u.shape
    groups = B.shape[1] if B.dim() == 4 else 0
    if groups < 1 or B.shape != (batch, groups, A.shape[1], length):
        raise ValueError(
            f"B has shape {tuple(B.shape)}, expected (B, N, L) or (B, G, N, L) "
            f"with batch {batch}, N = {A.shape[1]}, L = {length}"
        )
    if channels % groups:
        raise ValueError(f"B has {groups} groups, which must divide the {channels} channels of u")
    expected = {"delta": u.shape, "C": B.shape, "D": (channels,), "z": u.shape, "delta_bias": (channels,)}
    tensors = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z, "delta_bias": delta_bias}
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if name in expected and tensor.shape != expected[name]:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {tuple(expected[name])}")
        if tensor.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            raise ValueError(f"{name} is {tensor.dtype}, expected float64, float32, float16 or bfloat16")
        if tensor.device != u.device:
            raise ValueError(f"{name} is on {tensor.device}, expected {u.device}, the device of u")
