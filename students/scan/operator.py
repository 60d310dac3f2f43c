"""The scan as PyTorch operators: `distill::selective_scan` and its backward.

As operators they are opaque to `torch.compile` and `torch.export`, work under fake tensors, and are counted by
`torch.utils.flop_counter`. They compute in float32 or float64 whatever autocast says.

Axes: as in `students.scan.problem`.
"""

import math
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from students.scan.backends import AUTO, BACKENDS, REFERENCE, choose_backend
from students.scan.problem import Gradients, Result, Scan
from students.scan.reference import scan_reference

# Multiply-adds per state update. Forward: input, state, output. Backward, as executed: the first two again, then the
# gradients of the state (2), of B, C and Δu (3), of ΔA (1), of A and Δ (2).
_FORWARD_MACS = 3
_BACKWARD_MACS = 10
_DIFFERENTIABLE = tuple(field.name for field in fields(Gradients))  # the first arguments of `Scan`, in its order


@torch.library.custom_op("distill::selective_scan", mutates_args=())
def scan_forward(
    u: Tensor,
    delta: Tensor,
    delta_weight: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    order: Tensor | None,
    delta_softplus: bool,
    scale: float,
    training: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The tensors of a `Result`, computed by a backend from the checked arguments of a `Scan`.

    Outside training the backend may be "auto", the fastest of the machine that this runs on.
    """
    scan = Scan(u, delta, delta_weight, A, B, C, D, z, delta_bias, initial_state, order, delta_softplus, scale)
    with torch.autocast(u.device.type, enabled=False):
        result = _compute(scan, training, choose_backend(AUTO, scan.traits) if backend == AUTO else backend)
    # In one axis: where sizes vary, PyTorch would ask whether each axis has length 1 and pin the answer.
    return result.out, result.last_state, result.ungated, result.starts.flatten()


def _compute(scan: Scan, training: bool, backend: str) -> Result:
    if backend != REFERENCE:
        return BACKENDS[backend].forward(scan, training)
    empty = scan.u.new_empty(0, dtype=scan.dtype)
    return Result(*scan_reference(scan), empty, empty.clone())


@torch.library.custom_op("distill::selective_scan_backward", mutates_args=())
def scan_backward(
    grad_out: Tensor,
    grad_last: Tensor | None,
    u: Tensor,
    delta: Tensor,
    delta_weight: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    order: Tensor | None,
    delta_softplus: bool,
    scale: float,
    backend: str,
    ungated: Tensor,
    starts: Tensor,
) -> list[Tensor]:
    """The tensors of `Gradients`; empty where an argument is absent."""
    scan = Scan(u, delta, delta_weight, A, B, C, D, z, delta_bias, initial_state, order, delta_softplus, scale)
    with torch.autocast(u.device.type, enabled=False):
        starts = starts.view(BACKENDS[backend].starts_shape(scan))
        gradients = BACKENDS[backend].backward(grad_out, grad_last, scan, ungated, starts)
    found = (getattr(gradients, name) for name in _DIFFERENTIABLE)
    return [u.new_empty(0) if gradient is None else gradient for gradient in found]


@scan_forward.register_fake
def _(
    u: Tensor,
    delta: Tensor,
    delta_weight: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    order: Tensor | None,
    delta_softplus: bool,
    scale: float,
    training: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    scan = Scan(u, delta, delta_weight, A, B, C, D, z, delta_bias, initial_state, order, delta_softplus, scale)
    outputs = (scan.batch, scan.tokens, scan.channels)
    starts = math.prod(BACKENDS[backend].starts_shape(scan)) if training else 0
    return (
        u.new_empty(outputs),
        u.new_empty((scan.batch, *A.shape), dtype=scan.state_dtype),
        u.new_empty(outputs if training and z is not None else (0,), dtype=scan.dtype),
        u.new_empty(starts, dtype=scan.state_dtype),
    )


@scan_backward.register_fake
def _(
    grad_out: Tensor,
    grad_last: Tensor | None,
    u: Tensor,
    delta: Tensor,
    delta_weight: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    *_: object,
) -> list[Tensor]:
    inputs = (u, delta, delta_weight, A, B, C, D, z, delta_bias, initial_state)
    return [u.new_empty(0) if x is None else x.new_empty(x.shape) for x in inputs]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.delta_softplus, ctx.scale, ctx.training, ctx.backend = inputs
    ungated, starts = output[2:]
    ctx.save_for_backward(*tensors, ungated, starts)
    ctx.mark_non_differentiable(ungated, starts)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad_out: Tensor | None, grad_last: Tensor | None, *_: object) -> tuple[Any, ...]:
    if grad_out is None and grad_last is None:
        return (None,) * (len(_DIFFERENTIABLE) + 5)
    if not ctx.training:
        raise RuntimeError("distill::selective_scan was called with training=False and cannot be differentiated")
    *tensors, ungated, starts = ctx.saved_tensors
    if grad_out is None:
        grad_out = torch.zeros_like(tensors[0][:, 0])
    gradients = scan_backward(
        grad_out, grad_last, *tensors, ctx.delta_softplus, ctx.scale, ctx.backend, ungated, starts
    )
    present = [x is not None for x in tensors[: len(_DIFFERENTIABLE)]]
    return (*(g if p else None for g, p in zip(gradients, present, strict=True)), *(None,) * 5)


scan_forward.register_autograd(_differentiate, setup_context=_setup_context)


def _macs(u: Any, weight: Any, A: Any, order: Any, per_update: int, per_factor: int) -> int:
    """Multiply-adds of a pass from shapes: so many per state update, and per product of a low-rank Δ."""
    steps = u[2] if order is None else order[1]
    return u[0] * steps * (per_update * math.prod(A) + (0 if weight is None else per_factor * math.prod(weight)))


@register_flop_formula(torch.ops.distill.selective_scan)
def _forward_flops(u: Any, delta: Any, weight: Any, A: Any, *rest: Any, **_: Any) -> int:
    return 2 * _macs(u, weight, A, rest[6], _FORWARD_MACS, 1)  # after A: B, C, D, z, delta_bias, initial_state, order


@register_flop_formula(torch.ops.distill.selective_scan_backward)
def _backward_flops(
    grad_out: Any, grad_last: Any, u: Any, delta: Any, weight: Any, A: Any, *rest: Any, **_: Any
) -> int:
    return 2 * _macs(u, weight, A, rest[6], _BACKWARD_MACS, 3)
