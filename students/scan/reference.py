"""The selective scan as its definition reads: one token after the other. Slow, and the truth for every other backend.

Axes: B batch, D channels, G groups, N states, L time.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def selective_scan_reference(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> tuple[Tensor, Tensor]:
    """Scans tensors shaped as in `selective_scan` (B and C with groups), differentiable by autograd.

    Time steps come from `unbind`, whose gradient is one stack; indexing inside the loop would make the backward pass
    quadratic in L.

    Returns:
        Outputs (B, D, L) in u's dtype and the last states (B, D, N) in the dtype of the computation.

    Source: Mamba (https://arxiv.org/abs/2312.00752), equation 2, with B discretised by Euler's rule as in its code.
    """
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    repeats = u.shape[1] // B.shape[1]
    x, step, decay = u.to(dtype), delta.to(dtype), A.to(dtype)
    if delta_bias is not None:
        step = step + delta_bias.to(dtype)[:, None]
    if delta_softplus:
        step = F.softplus(step)
    B_steps = B.to(dtype).repeat_interleave(repeats, dim=1).unbind(-1)
    C_steps = C.to(dtype).repeat_interleave(repeats, dim=1).unbind(-1)
    state = x.new_zeros(*x.shape[:2], decay.shape[1])
    outputs = []
    for u_t, delta_t, B_t, C_t in zip(x.unbind(-1), step.unbind(-1), B_steps, C_steps, strict=True):
        state = torch.exp(delta_t[..., None] * decay) * state + (delta_t * u_t)[..., None] * B_t
        outputs.append((state * C_t).sum(-1))
    y = torch.stack(outputs, dim=-1)
    if D is not None:
        y = y + D.to(dtype)[:, None] * x
    return y.to(u.dtype), state
