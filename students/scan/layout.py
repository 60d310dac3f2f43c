"""How mamba-ssm's channel-first tensors become a `Scan`: as views, one direction, no order.

Axes: B batch, D channels, G groups, N states, L tokens.
"""

import torch
from torch import Tensor

from students.scan.problem import Scan


def from_channel_first(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    initial_state: Tensor | None,
) -> Scan:
    """The arguments of `selective_scan`, shaped as documented there, as a scan."""

    def direction(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.unsqueeze(0)

    return Scan(
        u=u.mT.unsqueeze(1),
        delta=delta.mT.unsqueeze(1),
        delta_weight=None,
        A=A.unsqueeze(0),
        B=_weights(B, A),
        C=_weights(C, A),
        D=direction(D),
        z=None if z is None else z.mT,
        delta_bias=direction(delta_bias),
        initial_state=None if initial_state is None else initial_state.unsqueeze(1),
        order=None,
        delta_softplus=delta_softplus,
        scale=1.0,
    )


def _weights(x: Tensor, A: Tensor) -> Tensor:
    """B or C as (1, D, N), or (B, 1, G, L, N)."""
    if x.dim() == 2:
        return x.unsqueeze(0)
    if x.dim() == 3:
        x = x.unsqueeze(1)
    if A.is_complex():
        x = torch.view_as_complex(x.to(A.dtype.to_real()).unflatten(-1, (-1, 2)).contiguous())
    return x.mT.unsqueeze(1)
