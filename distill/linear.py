"""Linear layers whose float32 products oneDNN computes on AMD's processors.

PyTorch calls MKL, which computes there at half of the speed. Elsewhere, in other precisions, under autocast, traced,
compiled or exported, they are PyTorch's. `torch.backends.mkldnn.flags(enabled=False)` switches oneDNN off.

Axes: c channels in, C channels out.
"""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from distill.processor import is_from_amd

_Module = TypeVar("_Module", bound=nn.Module)
# Channels out below which the weight's gradient is PyTorch's: the copies that oneDNN needs cost more than it saves.
_NARROW = 128
_ONEDNN = torch.backends.mkldnn.is_available()  # where it is not, its operators do not exist
_FASTER = is_from_amd()  # other makers' processors have not been measured


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
    """`torch.nn.functional.linear`, in float32 on AMD's processors by oneDNN.

    Args:
        x: (..., c).
        weight: (C, c).
        bias: (C,).

    Returns:
        (..., C).
    """
    by_onednn = (
        _ONEDNN
        and _FASTER
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
    )
    if not by_onednn:
        return F.linear(x, weight, bias)
    if not torch.is_grad_enabled():
        return _multiply(x, weight, bias)
    # In rows: of more axes oneDNN gives a view, which a custom function may return but no ReLU change in place.
    rows: Tensor = _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias)
    return rows.view(*x.shape[:-1], len(weight))


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _multiply(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        of_x = of_weight = of_bias = None
        if wants_x:
            of_x = _multiply(gradient, weight.t().contiguous(), None)
        if wants_weight:
            if len(weight) < _NARROW:
                of_weight = gradient.t() @ x
            else:
                of_weight = _multiply(gradient.t().contiguous(), x.t().contiguous(), None)
        if wants_bias:
            of_bias = gradient.sum(0)
        return of_x, of_weight, of_bias


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


def _flops(x: Any, *_: object, out_shape: Any, **__: object) -> int:
    return 2 * torch.Size(out_shape).numel() * int(x[-1])


if _ONEDNN:
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_flops)
