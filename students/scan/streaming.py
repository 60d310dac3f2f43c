"""One step of the selective scan and of the convolution before it, for tokens that arrive one by one.

Axes: B batch, D channels, G groups, N states, W taps.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from students.scan.checks import check_update
from students.scan.convolution import check_convolution


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
) -> Tensor:
    """Advances `state` in place by one token and returns the output for it, as one step of `selective_scan`.

    Args:
        state: (B, D, N), complex where A is; best kept in float32, whatever the dtype of the tokens.
        x: (B, D), u of the token.
        dt: (B, D), Δ of the token before bias and softplus.
        A: (D, N), real or complex.
        B: (B, N) or (B, G, N) of the token, complex where A is.
        C: As `B`.
        D: (D,), the skip connection.
        z: (B, D), the gate.
        dt_bias: (D,), added to `dt`.
        dt_softplus: Whether Δ = softplus(dt + dt_bias).

    Returns:
        The output (B, D) in x's dtype.

    Raises:
        ValueError: An argument has the wrong type, shape, dtype or device.

    Source: the arguments and their order are those of `selective_state_update` in mamba-ssm
    (https://github.com/state-spaces/mamba).
    """
    check_update(state, x, dt, A, B, C, D, z, dt_bias)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    states_dtype = dtype.to_complex() if A.is_complex() else dtype
    B, C = (_per_channel(w, state.shape[1]).to(states_dtype) for w in (B, C))
    u, delta = x.to(dtype), dt.to(dtype)
    if dt_bias is not None:
        delta = delta + dt_bias.to(dtype)
    if dt_softplus:
        delta = F.softplus(delta)
    decay = torch.exp(delta.unsqueeze(-1) * A.to(states_dtype))
    state.copy_(decay * state + (delta * u).unsqueeze(-1) * B)
    y = (state.to(states_dtype) * C).sum(-1)
    if y.is_complex():
        y = 2 * y.real
    if D is not None:
        y = y + D.to(dtype) * u
    if z is not None:
        y = y * F.silu(z.to(dtype))
    return y.to(x.dtype)


def causal_conv1d_update(
    x: Tensor, conv_state: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None
) -> Tensor:
    """Advances `conv_state` in place by one token and returns the output for it, as one step of `causal_conv1d`.

    Args:
        x: (B, D), the token.
        conv_state: (B, D, S), the last S >= W - 1 tokens: the final states of `causal_conv1d`, or zeros.
        weight: (D, W).
        bias: (D,).
        activation: None, or "silu", of which "swish" is another name.

    Returns:
        The output (B, D) in x's dtype.

    Raises:
        ValueError: An argument has the wrong type, shape, dtype or device.

    Source: the arguments and their order are those of `causal_conv1d_update` in causal-conv1d
    (https://github.com/Dao-AILab/causal-conv1d).
    """
    tokens = x.unsqueeze(-1) if isinstance(x, Tensor) and x.dim() == 2 else x
    check_convolution(tokens, weight, bias, activation, "(B, D)")
    taps = weight.shape[1]
    if not isinstance(conv_state, Tensor) or not conv_state.is_floating_point() or conv_state.device != x.device:
        raise ValueError(f"conv_state must be a tensor of a floating-point type on {x.device}, the device of x")
    if conv_state.dim() != 3 or conv_state.shape[:2] != x.shape or conv_state.shape[2] < taps - 1:
        raise ValueError(
            f"conv_state has shape {tuple(conv_state.shape)}, expected (B, D, S) = {(*x.shape, taps - 1)} or a larger S"
        )
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    window = torch.cat([conv_state.to(dtype), tokens.to(dtype)], dim=-1)
    conv_state.copy_(window[..., 1:])
    y = (window[..., -taps:] * weight.to(dtype)).sum(-1)
    if bias is not None:
        y = y + bias.to(dtype)
    return (F.silu(y) if activation else y).to(x.dtype)


def _per_channel(x: Tensor, channels: int) -> Tensor:
    """B or C as (B, D, N)."""
    if x.dim() == 2:
        x = x.unsqueeze(1)
    return x.repeat_interleave(channels // x.shape[1], dim=1)
