"""The selective scan as PyTorch operators: `distill::selective_scan` and its backward.

As operators they are opaque to `torch.compile` and `torch.export`, work under fake tensors, and are counted by
`torch.utils.flop_counter`.

Axes: B batch, D channels, G groups, N states, L time.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from students.scan.backends import BACKENDS

# Multiply-adds per (b, d, l, n). Forward: input, state, output. Backward, as executed: the first two again, then the
# gradients of the state (2), of B, C and Δu (3), the product behind ΔA (2), A and Δ (2).
_FORWARD_MACS = 3
_BACKWARD_MACS = 11


@torch.library.custom_op("distill::selective_scan", mutates_args=())
def scan_forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, last states and block starts, computed by a backend from arguments that are already checked."""
    with torch.autocast(u.device.type, enabled=False):
        return BACKENDS[backend].forward(u, delta, A, B, C, D, delta_bias, delta_softplus)


@torch.library.custom_op("distill::selective_scan_backward", mutates_args=())
def scan_backward(
    grad_out: Tensor,
    grad_last: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    starts: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, delta, A, B, C, D and delta_bias; those of absent options are empty."""
    with torch.autocast(u.device.type, enabled=False):
        gradients = BACKENDS[backend].backward(
            grad_out, grad_last, u, delta, A, B, C, D, delta_bias, delta_softplus, starts
        )
    return gradients  # type: ignore[return-value]  # a tuple of seven, which `Callable` cannot say


@scan_forward.register_fake
def _(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    (batch, channels, length), states = u.shape, A.shape[1]
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    blocks = BACKENDS[backend].blocks(batch, channels // B.shape[1], states, length, u.device.type)
    return (
        u.new_empty(batch, length, channels).transpose(1, 2),
        u.new_empty(batch, states, channels, dtype=dtype).transpose(1, 2),
        u.new_empty(blocks, batch, states, channels, dtype=dtype).transpose(2, 3),
    )


@scan_backward.register_fake
def _(
    grad_out: Tensor,
    grad_last: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    starts: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    (batch, channels, length), (groups, states) = u.shape, B.shape[1:3]
    return (
        u.new_empty(batch, length, channels).transpose(1, 2),
        delta.new_empty(batch, length, channels).transpose(1, 2),
        A.new_empty(states, channels).T,
        B.new_empty(batch, groups, length, states).transpose(2, 3),
        C.new_empty(batch, groups, length, states).transpose(2, 3),
        u.new_empty(0) if D is None else D.new_empty(channels),
        u.new_empty(0) if delta_bias is None else delta_bias.new_empty(channels),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    u, delta, A, B, C, D, delta_bias, ctx.delta_softplus, ctx.backend = inputs
    starts = output[2]
    ctx.save_for_backward(u, delta, A, B, C, D, delta_bias, starts)
    ctx.mark_non_differentiable(starts)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad_out: Tensor | None, grad_last: Tensor | None, _: object) -> tuple[Tensor | None, ...]:
    u, delta, A, B, C, D, delta_bias, starts = ctx.saved_tensors
    if grad_out is None and grad_last is None:
        return (None,) * 9
    grad_out = torch.zeros_like(u) if grad_out is None else grad_out
    gradients = scan_backward(
        grad_out, grad_last, u, delta, A, B, C, D, delta_bias, ctx.delta_softplus, starts, ctx.backend
    )
    present = (True, True, True, True, True, D is not None, delta_bias is not None)
    return (*(g if p else None for g, p in zip(gradients, present, strict=True)), None, None)


scan_forward.register_autograd(_differentiate, setup_context=_setup_context)


@register_flop_formula(torch.ops.distill.selective_scan)
def _forward_flops(u_shape: torch.Size, delta_shape: torch.Size, A_shape: torch.Size, *_: object, **__: object) -> int:
    return 2 * _FORWARD_MACS * math.prod(u_shape) * A_shape[1]


@register_flop_formula(torch.ops.distill.selective_scan_backward)
def _backward_flops(
    grad_shape: torch.Size,
    last_shape: torch.Size | None,
    u_shape: torch.Size,
    delta_shape: torch.Size,
    A_shape: torch.Size,
    *_: object,
    **__: object,
) -> int:
    return 2 * _BACKWARD_MACS * math.prod(u_shape) * A_shape[1]
