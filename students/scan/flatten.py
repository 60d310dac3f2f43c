"""Reduces any `Scan` to independent sequences for backends without images, and converts the results back.

    flatten              Scan to K sequences: tokens in the order of their visit, Δ from its low-rank factors
    merge                their outputs to those of the scan: added up over directions, scaled, gated
    flatten_gradient     the gradient of the scan's outputs to that of the sequences' outputs
    unflatten            gradients of the sequences' tensors to those of the scan's

and parts of it for backends that do the rest themselves:

    gate, gate_gradient  y silu(z), and its gradients
    factor_gradients     of Δ's low-rank factors

Matrix products of Δ's factors are in float32 at least, at the precision that `torch.set_float32_matmul_precision` asks
for: "high" rounds the factors to TF32 on a GPU, as it does for the layers that compute them.

Beyond the end of a row of the order, Δ, u, B and C are zero: such steps leave the state as it is, whatever tokens hold.
Where there is one direction without order, the sequences are views.

Axes: B batch, K directions, T steps, P tokens of the image, D channels, G groups, N states, R rank.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from students.scan.problem import Gradients, Scan


def flatten(scan: Scan) -> Scan:
    """The K directions as sequences of T tokens of their own: a `Scan` without order, low-rank Δ, gate and scale.

    Its output is to be computed per direction, (B, K, T, D), rather than added up. With an order, the bias of Δ is
    part of its `delta`.
    """
    order, bias = scan.order, scan.delta_bias
    delta = _visit(scan.delta, order)
    if scan.delta_weight is not None:
        delta = delta.to(scan.dtype) @ scan.delta_weight.to(scan.dtype).mT
    if order is not None:
        if bias is not None:
            delta, bias = delta.to(scan.dtype).add(bias.to(scan.dtype)[:, None]), None
        delta.masked_fill_((order < 0)[..., None], -math.inf if scan.delta_softplus else 0)
    return replace(
        scan,
        u=_visit(scan.u.expand(-1, scan.directions, -1, -1), order),
        delta=delta,
        delta_weight=None,
        B=scan.B if scan.B.dim() == 3 else _visit(scan.B.transpose(2, 3), order).transpose(2, 3),
        C=scan.C if scan.C.dim() == 3 else _visit(scan.C.transpose(2, 3), order).transpose(2, 3),
        z=None,
        delta_bias=bias,
        order=None,
        scale=1.0,
    )


def merge(scan: Scan, y: Tensor, training: bool) -> tuple[Tensor, Tensor]:
    """`Result.out` and `Result.ungated` from the outputs (B, K, T, D) of the flattened scan."""
    y = _sum(y.to(scan.dtype), scan.order, scan.tokens)
    if scan.scale != 1:
        y = y * scan.scale
    if scan.z is None:
        return y.to(scan.u.dtype).contiguous(), y.new_empty(0)
    return gate(y, scan.z).to(scan.u.dtype).contiguous(), y.contiguous() if training else y.new_empty(0)


def flatten_gradient(scan: Scan, grad_out: Tensor, ungated: Tensor) -> tuple[Tensor, Tensor | None]:
    """Gradients of the flattened outputs (B, K, T, D), in `scan.dtype`, and of z."""
    grad, grad_z = grad_out.to(scan.dtype), None
    if scan.z is not None:
        grad, grad_z = gate_gradient(grad, scan.z, ungated)
    if scan.scale != 1:
        grad = grad * scan.scale
    return _visit(grad.unsqueeze(1).expand(-1, scan.directions, -1, -1), scan.order), grad_z


def unflatten(scan: Scan, gradients: Gradients) -> Gradients:
    """Gradients of the scan's tensors from those of `flatten(scan)`.

    Args:
        scan: The scan that was flattened.
        gradients: Of the flattened tensors, in their shapes, those of u, delta, B and C in any precision; z is that
            of `flatten_gradient`.
    """
    order, dtype = scan.order, scan.dtype
    grad_u, grad_delta, grad_bias, grad_weight = gradients.u, gradients.delta, gradients.delta_bias, None
    if scan.u.shape[1] < scan.directions:
        grad_u = _sum(grad_u.to(dtype), order, scan.tokens).unsqueeze(1)
    else:
        grad_u = _return(grad_u, order, scan.tokens)
    if order is not None:
        grad_delta = grad_delta.to(dtype).masked_fill((order < 0)[..., None], 0)
        grad_bias = grad_delta.sum((0, 2))
    if scan.delta_weight is not None:
        grad_delta, grad_weight = factor_gradients(grad_delta.to(dtype), _visit(scan.delta, order), scan.delta_weight)
    return Gradients(
        u=_like(grad_u, scan.u),
        delta=_like(_return(grad_delta, order, scan.tokens), scan.delta),
        delta_weight=_optional(grad_weight, scan.delta_weight),
        A=_like(gradients.A, scan.A),
        B=_like(_return_weights(gradients.B, scan), scan.B),
        C=_like(_return_weights(gradients.C, scan), scan.C),
        D=_optional(gradients.D, scan.D),
        z=_optional(gradients.z, scan.z),
        delta_bias=_optional(grad_bias, scan.delta_bias),
        initial_state=_optional(gradients.initial_state, scan.initial_state),
    )


def gate(y: Tensor, z: Tensor) -> Tensor:
    """y silu(z) in the dtype of y."""
    return F.silu(z.to(y.dtype)).mul_(y)


def gate_gradient(grad: Tensor, z: Tensor, ungated: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of y, in the dtype of `ungated`, and of z, in its own, from that of y silu(z).

    Args:
        grad: (B, P, D), the gradient of the gated output.
        z: (B, P, D).
        ungated: (B, P, D), y.
    """
    grad, x = grad.to(ungated.dtype), z.to(ungated.dtype)
    sigmoid = torch.sigmoid(x)
    grad_z = grad * ungated * sigmoid * (1 + x * (1 - sigmoid))
    return grad * sigmoid * x, grad_z.to(z.dtype).contiguous()


def factor_gradients(grad: Tensor, factor: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of Δ's factors in their dtypes, computed in that of `grad`.

    Like those of any linear layer they are matrix products that follow `torch.set_float32_matmul_precision`, which is
    not overruled here because it is one setting for all threads.

    Args:
        grad: (B, K, T, D), the gradient of `factor @ weight.mT`.
        factor: (B, K, T, R).
        weight: (K, D, R).
    """
    grad_factor = grad @ weight.to(grad.dtype)
    grad_weight = (grad.mT @ factor.to(grad.dtype)).sum(0)
    return grad_factor.to(factor.dtype), grad_weight.to(weight.dtype)


def _visit(x: Tensor, order: Tensor | None) -> Tensor:
    """Tokens (B, K, P, ...) as steps (B, K, T, ...), zero beyond the end of a row."""
    if order is None:
        return x
    index = order.clamp(min=0)
    steps = torch.stack([x[:, k].index_select(1, row) for k, row in enumerate(index.unbind(0))], dim=1)
    return steps.masked_fill_((order < 0).view(*order.shape, *(1,) * (x.dim() - 3)), 0)


def _return(x: Tensor, order: Tensor | None, tokens: int) -> Tensor:
    """The inverse of `_visit`: steps (B, K, T, ...) as tokens (B, K, P, ...), zero at those never visited."""
    if order is None:
        return x
    target = x.new_zeros(*x.shape[:2], tokens + 1, *x.shape[3:])  # the last row takes steps beyond the end
    for k, row in enumerate(_targets(order, tokens)):
        target[:, k].index_copy_(1, row, x[:, k])
    return target[:, :, :tokens]


def _return_weights(x: Tensor, scan: Scan) -> Tensor:
    return x if x.dim() == 3 else _return(x.transpose(2, 3), scan.order, scan.tokens).transpose(2, 3)


def _sum(x: Tensor, order: Tensor | None, tokens: int) -> Tensor:
    """Steps (B, K, T, W) added up over directions at their tokens, (B, P, W), one direction after the other."""
    if order is None:
        return x.sum(1) if x.shape[1] > 1 else x.squeeze(1)
    target = x.new_zeros(x.shape[0], tokens + 1, x.shape[3])
    for k, row in enumerate(_targets(order, tokens)):
        target.index_add_(1, row, x[:, k])
    return target[:, :tokens]


def _targets(order: Tensor, tokens: int) -> tuple[Tensor, ...]:
    return torch.where(order < 0, tokens, order).long().unbind(0)


def _like(gradient: Tensor, x: Tensor) -> Tensor:
    return gradient.to(x.dtype).contiguous()


def _optional(gradient: Tensor | None, x: Tensor | None) -> Tensor | None:
    return None if gradient is None or x is None else _like(gradient, x)
