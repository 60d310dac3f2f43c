"""Reference implementation of the selective scan, token by token; every other backend is tested against it.

It shares no code with `students.scan.flatten`, on purpose: an error there would not show in a comparison with itself.

Axes: B batch, K directions, T steps, P tokens of the image, D channels, G groups, M = D / G channels of a group,
N states, L tokens of a sequence.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from students.scan.layout import from_channel_first
from students.scan.problem import Scan


def scan_reference(scan: Scan) -> tuple[Tensor, Tensor]:
    """Runs a scan in operations that autograd differentiates, to any order, whatever autocast says.

    Steps come from `unbind`, whose gradient is one stack; indexing inside the loop would make the backward pass
    quadratic in their number.

    Returns:
        Outputs (B, P, D) in u's dtype and the last states (B, K, D, N) in `scan.state_dtype`.

    Source: Mamba (https://arxiv.org/abs/2312.00752), equation 2, with B discretised by Euler's rule as in its code;
    complex states by pairs of conjugates as in S4D (https://arxiv.org/abs/2206.11893, section 3.3).
    """
    with torch.autocast(scan.u.device.type, enabled=False):
        return _run(scan)


def _run(scan: Scan) -> tuple[Tensor, Tensor]:
    dtype, grouped = scan.dtype, (scan.groups, scan.channels // scan.groups)
    u = _steps(scan.u.to(dtype).expand(-1, scan.directions, -1, -1), scan.order)
    delta = scan.delta.to(dtype)
    if scan.delta_weight is not None:
        delta = delta @ scan.delta_weight.to(dtype).mT
    if scan.delta_bias is not None:
        delta = delta + scan.delta_bias.to(dtype)[:, None]
    if scan.delta_softplus:
        delta = F.softplus(delta)
    delta = _steps(delta, scan.order)
    A = scan.A.to(scan.state_dtype).unflatten(1, grouped)
    state = u.new_zeros(scan.batch, *A.shape, dtype=scan.state_dtype)
    if scan.initial_state is not None:
        state = scan.initial_state.to(scan.state_dtype).unflatten(2, grouped)
    outputs = []
    for u_t, delta_t, B_t, C_t in zip(
        u.unflatten(-1, grouped).unbind(2),
        delta.unflatten(-1, grouped).unbind(2),
        _weights(scan, scan.B),
        _weights(scan, scan.C),
        strict=True,
    ):
        state = torch.exp(delta_t[..., None] * A) * state + (delta_t * u_t)[..., None] * B_t
        y_t = (C_t * state).sum(-1)
        outputs.append(2 * y_t.real if y_t.is_complex() else y_t)
    y = torch.stack(outputs, dim=2).flatten(3)
    if scan.D is not None:
        y = y + scan.D.to(dtype)[:, None] * u
    y = _merge(y, scan) * scan.scale
    if scan.z is not None:
        y = y * F.silu(scan.z.to(dtype))
    return y.to(scan.u.dtype), state.flatten(2, 3)


def selective_scan_reference(
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
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`scan_reference` with the arguments of `selective_scan`, unchecked.

    Returns:
        Outputs (B, D, L) in u's dtype and the last states (B, D, N) in the dtype of the computation.
    """
    scan = from_channel_first(u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state)
    out, last = scan_reference(scan)
    return out.mT, last.squeeze(1)


def _steps(x: Tensor, order: Tensor | None) -> Tensor:
    """Tokens (B, K, P, ...) in the order of their visit, (B, K, T, ...); zero beyond the end of a row.

    Zero there, in Δ as in all else, leaves the state as it is and hands no gradient to the token that was read.
    """
    if order is None:
        return x
    index = order.long()
    visited = x[:, torch.arange(len(order), device=x.device)[:, None], index.clamp(min=0)]
    inside = (index >= 0).view(*order.shape, *(1,) * (x.dim() - 3))
    return torch.where(inside, visited, torch.zeros_like(visited))


def _weights(scan: Scan, x: Tensor) -> list[Tensor]:
    """B or C at every step, each (B, K, G, 1, N), or (K, G, M, N) where it is constant."""
    x = x.to(scan.state_dtype)
    if x.dim() == 3:
        return [x.unflatten(1, (scan.groups, -1))] * scan.steps
    return list(_steps(x.transpose(2, 3), scan.order).unsqueeze(-2).unbind(2))


def _merge(y: Tensor, scan: Scan) -> Tensor:
    """Adds the outputs of all directions, (B, K, T, D), up at their tokens, (B, P, D)."""
    if scan.order is None:
        return y.sum(1)
    index = scan.order.long()
    inside = (index >= 0)[..., None]
    y = torch.where(inside, y, torch.zeros_like(y)).flatten(1, 2)
    target = y.new_zeros(scan.batch, scan.tokens, scan.channels)
    return target.scatter_add(1, index.clamp(min=0).flatten()[:, None].expand_as(y), y)
