"""Linear layers whose float32 products oneDNN computes on processors.

PyTorch calls MKL there, which computes at half of the speed on AMD's processors. Elsewhere, in other precisions, under
autocast, compiled or exported, they are PyTorch's. `torch.backends.mkldnn.flags(enabled=False)` switches oneDNN off.

Axes: L tokens, c channels in, C channels out.
"""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

_Module = TypeVar("_Module", bound=nn.Module)
_NARROW = (
    128  # channels out below which the copies that oneDNN needs for the weight's gradient take longer than it saves
)
_ONEDNN = torch.backends.mkldnn.is_available()
_product = torch.ops.mkldnn._linear_pointwise


class Linear(nn.Linear):
    """`torch.nn.Linear`, computed by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., c) to (..., C)."""
        return linear(x, self.weight, self.bias)


def use_onednn(model: _Module) -> _Module:
    """Has the plain linear layers of a model computed by `linear`.

    Weights, their names and hooks stay. Layers of other classes, such as quantised ones, stay as they are.
    """
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear
    return model


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`, in float32 on processors by oneDNN.

    Args:
        x: (..., c).
        weight: (C, c).
        bias: (C,).

    Returns:
        (..., C).
    """
    by_onednn = (
        _ONEDNN
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.compiler.is_compiling()
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
    )
    if not by_onednn:
        return F.linear(x, weight, bias)
    y: Tensor = _Linear.apply(x, weight, bias) if torch.is_grad_enabled() else _multiply(x, weight, bias)
    return y


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _multiply(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        of_x = of_weight = of_bias = None
        if wants_x:
            of_x = _multiply(gradient, weight.t().contiguous(), None)
        rows = gradient.reshape(-1, gradient.shape[-1])
        if wants_weight:
            tokens = x.reshape(-1, x.shape[-1])
            if len(weight) < _NARROW:
                of_weight = rows.t() @ tokens
            else:
                of_weight = _multiply(rows.t().contiguous(), tokens.t().contiguous(), None)
        if wants_bias:
            of_bias = rows.sum(0)
        return of_x, of_weight, of_bias


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y: Tensor = _product(x, weight, bias, "none", [], "")
    return y


@register_flop_formula(_product)
def _flops(x: Any, *_: object, out_shape: Any, **__: object) -> int:
    return 2 * torch.Size(out_shape).numel() * int(x[-1])
