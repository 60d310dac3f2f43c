"""The short depth-wise convolution along the tokens that precedes a selective scan.

On CPUs with the compiled kernels all directions, bias and activation are one pass over memory, by the fastest
instruction set whichever scan runs. Elsewhere PyTorch's convolution runs, and on a GPU causal-conv1d's where it is
installed and takes the sizes (causal, 2 to 4 taps, multiples of eight). All compute in float32, float64 for float64
tokens, whatever the dtype of tokens and weights: only the result is rounded to the tokens' dtype, and each gradient to
that of its tensor.

Axes: B batch, K directions, L tokens, D channels, W taps.
"""

from contextlib import nullcontext
from functools import cache
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from students.scan import cpu

_ACTIVATIONS = (None, "silu", "swish")  # two names of one function, as in causal-conv1d


@overload
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    *,
    padding: str = "causal",
    initial_states: Tensor | None = None,
    return_final_states: Literal[False] = False,
) -> Tensor: ...
@overload
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    *,
    padding: str = "causal",
    initial_states: Tensor | None = None,
    return_final_states: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    *,
    padding: str = "causal",
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """out_t = act(bias + Σ_w weight_w x_{t - W + 1 + w}); tokens beyond the ends are zero.

    Args:
        x: (B, D, L), any strides; fastest where channels are contiguous.
        weight: (D, W).
        bias: (D,).
        activation: None, or "silu", of which "swish" is another name.
        padding: "causal", or "same" for the window centred on the token, as PyTorch centres it.
        initial_states: (B, D, W - 1), the tokens before the first one, zero by default. Causal padding only.
        return_final_states: Whether to return (output, final states): the last W - 1 tokens, with which the sequence
            can be continued here or by `causal_conv1d_update`. Causal padding only.

    Returns:
        The output (B, D, L), and the final states (B, D, W - 1), in x's dtype.

    Raises:
        ValueError: An argument has the wrong shape, dtype, device or value.

    Source: the arguments are those of causal-conv1d (github.com/Dao-AILab/causal-conv1d), any W instead of 2 to 4.
    """
    if padding not in ("causal", "same"):
        raise ValueError(f"padding is {padding!r}, expected 'causal' or 'same'")
    check_convolution(x, weight, bias, activation, "(B, D, L)")
    taps, tokens = weight.shape[1], x.mT
    if padding == "same":
        if initial_states is not None or return_final_states:
            raise ValueError("initial_states and return_final_states need padding 'causal', not 'same'")
        return _convolve(tokens, weight, bias, activation, [-((taps - 1) // 2)], [1])[:, 0].mT
    known = 0
    if initial_states is not None:
        _check_states(initial_states, x, taps)
        tokens, known = torch.cat([initial_states.mT.to(x.dtype), tokens], dim=1), taps - 1
    y = _convolve(tokens, weight, bias, activation, [1 - taps], [1])[:, 0, known:].mT
    if not return_final_states:
        return y
    return y, F.pad(tokens, (0, 0, taps - 1 - tokens.shape[1], 0)).mT  # negative padding cuts


def bidirectional_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None
) -> Tensor:
    """The causal convolution of a sequence and of its reverse, with the same weights.

    Args:
        x: (B, L, D).
        weight: (D, W).
        bias: (D,).
        activation: As in `causal_conv1d`.

    Returns:
        (B, 2, L, D), both in the order of the tokens: `[:, 1]` is the convolution of the reversed sequence, reversed.

    Raises:
        ValueError: An argument has the wrong shape, dtype, device or value.
    """
    check_convolution(x, weight, bias, activation, "(B, L, D)")
    taps = weight.shape[1]
    return _convolve(x, weight, bias, activation, [1 - taps, taps - 1], [1, -1])


def check_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None, layout: str) -> None:
    """Checks the arguments of a convolution; `layout` is that of its x, whose channels are last in "(B, L, D)" alone.

    Raises:
        ValueError: One has the wrong type, shape, dtype, device or value.
    """
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}, expected None, 'silu' or 'swish'")
    tensors = {"x": x, "weight": weight} | ({} if bias is None else {"bias": bias})
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name} is of type {type(tensor).__name__}, expected a tensor")
        if not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype}, expected a floating-point type")
        if tensor.device != x.device:
            raise ValueError(f"{name} is on {tensor.device}, expected {x.device}, the device of x")
    if x.dim() != 3 or x.shape[1] < 1 or x.shape[2] < 1:
        raise ValueError(f"x has shape {tuple(x.shape)}, expected {layout} with all but B at least 1")
    channels = x.shape[2 if layout == "(B, L, D)" else 1]
    if weight.dim() != 2 or weight.shape[0] != channels or weight.shape[1] < 1:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}, expected (D, W) with D = {channels}, the channels of x"
        )
    if bias is not None and bias.shape != (channels,):
        raise ValueError(f"bias has shape {tuple(bias.shape)}, expected ({channels},)")


def _check_states(states: Tensor, x: Tensor, taps: int) -> None:
    shape = (x.shape[0], x.shape[1], taps - 1)
    if not isinstance(states, Tensor) or not states.is_floating_point():
        raise ValueError("initial_states must be a tensor of a floating-point type")
    if states.shape != shape:
        raise ValueError(f"initial_states has shape {tuple(states.shape)}, expected (B, D, W - 1) = {shape}")
    if states.device != x.device:
        raise ValueError(f"initial_states is on {states.device}, expected {x.device}, the device of x")


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None, offsets: list[int], strides: list[int]
) -> Tensor:
    """Tap w of direction k reads token t + offsets[k] + w strides[k] of x (B, L, D); returns (B, K, L, D)."""
    silu = activation is not None
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    weight = weight.to(dtype)
    bias = weight.new_zeros(weight.shape[0]) if bias is None else bias.to(dtype)
    if x.device.type == "cpu" and dtype == torch.float32 and _kernels_load():
        return convolve(x.float(), weight, bias, silu, offsets, strides).to(x.dtype)
    # The meta device knows no autocast.
    with nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False):
        outputs = [_plain(x, weight, bias, silu, *tap) for tap in zip(offsets, strides, strict=True)]
    return torch.stack(outputs, dim=1)


def _kernels_load() -> bool:
    return cpu.library.best() is not None


_kernels_load._dynamo_marked_constant = True  # type: ignore[attr-defined]  # see backends.py


@cache
def _cuda_kernel() -> Any:
    """causal-conv1d's function, or None where it cannot be imported."""
    try:
        from causal_conv1d import causal_conv1d_fn
    except Exception:  # its compiled part fails in as many ways as there are versions of PyTorch
        return None
    return causal_conv1d_fn


def _plain(x: Tensor, weight: Tensor, bias: Tensor, silu: bool, offset: int, stride: int) -> Tensor:
    """One direction by PyTorch in the dtype of the weights, or by causal-conv1d where that is to be had."""
    taps = weight.shape[1]
    causal = offset == stride * (1 - taps)
    if causal and _suits_cuda_kernel(x, taps) and (kernel := _cuda_kernel()) is not None:
        tokens = x if stride > 0 else x.flip(1)  # the kernel knows one direction
        y: Tensor = kernel(tokens.mT, weight, bias, activation="silu" if silu else None).mT
        return y if stride > 0 else y.flip(1)
    if stride < 0:  # the same taps in the order of the tokens
        weight, offset = weight.flip(1), offset - (taps - 1)
    # As a 2-D convolution in channels-last layout it needs no transposed copy of the tokens.
    image = F.pad(x.to(weight.dtype), (0, 0, -offset, taps - 1 + offset)).mT.unsqueeze(2)
    y = F.conv2d(image, weight[:, None, None], bias, groups=x.shape[2]).squeeze(2).mT
    return (F.silu(y) if silu else y).to(x.dtype)


def _suits_cuda_kernel(x: Tensor, taps: int) -> bool:
    """Whether causal-conv1d takes x (B, L, D), to it a channels-last tensor: its sizes must be multiples of eight."""
    aligned = x.shape[2] % 8 == x.stride(0) % 8 == x.stride(1) % 8 == 0
    return x.device.type == "cuda" and x.dtype != torch.float64 and 2 <= taps <= 4 and aligned


@torch.library.custom_op("distill::convolve", mutates_args=(), device_types="cpu")
def convolve(x: Tensor, weight: Tensor, bias: Tensor, silu: bool, offsets: list[int], strides: list[int]) -> Tensor:
    """`_convolve` for float32 on CPUs, by the compiled kernels.

    An exported program calls it on machines without them, too.
    """
    if not _kernels_load():
        return torch.stack([_plain(x, weight, bias, silu, *tap) for tap in zip(offsets, strides, strict=True)], dim=1)
    return cpu.convolve(x, weight, bias, silu, offsets, strides)


@torch.library.custom_op("distill::convolve_backward", mutates_args=(), device_types="cpu")
def convolve_backward(
    grad_out: Tensor, x: Tensor, weight: Tensor, bias: Tensor, silu: bool, offsets: list[int], strides: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias."""
    return cpu.convolve_backward(grad_out, x, weight, bias, silu, offsets, strides)


@convolve.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, silu: bool, offsets: list[int], strides: list[int]) -> Tensor:
    return x.new_empty(x.shape[0], len(offsets), *x.shape[1:])


@convolve_backward.register_fake
def _(grad_out: Tensor, x: Tensor, weight: Tensor, bias: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape), bias.new_empty(bias.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.silu, ctx.offsets, ctx.strides = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, grad_out: Tensor) -> tuple[Any, ...]:
    gradients = convolve_backward(grad_out, *ctx.saved_tensors, ctx.silu, ctx.offsets, ctx.strides)
    return (*gradients, None, None, None)


convolve.register_autograd(_differentiate, setup_context=_setup_context)


@register_flop_formula(torch.ops.distill.convolve)
def _flops(x: Any, weight: Any, bias: Any, silu: bool, offsets: list[int], *_: object, **__: object) -> int:
    return 2 * len(offsets) * x[0] * x[1] * weight[0] * weight[1]


@register_flop_formula(torch.ops.distill.convolve_backward)
def _backward_flops(
    grad: Any, x: Any, weight: Any, bias: Any, silu: bool, offsets: list[int], *_: object, **__: object
) -> int:
    return 3 * 2 * len(offsets) * x[0] * x[1] * weight[0] * weight[1]  # the sum again, its input, its weight
