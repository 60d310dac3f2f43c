"""The depth-wise convolution by the compiled CPU kernels.

Axes: B batch, K directions, P tokens, D channels, W taps.
"""

import ctypes

import torch
from torch import Tensor

from students.scan.cpu import library

_PRODUCTS_PER_THREAD = 2**18  # multiply-adds below which another thread costs more than it saves


def convolve(x: Tensor, weight: Tensor, bias: Tensor, silu: bool, offsets: list[int], strides: list[int]) -> Tensor:
    """Output (B, K, P, D) of float32 tensors x (B, P, D), weight (D, W) and bias (D,); see `distill::convolve`."""
    out = x.new_empty(x.shape[0], len(offsets), *x.shape[1:])
    call = _Call(x, weight, bias, silu, offsets, strides)
    call("conv_forward", out=out)
    return out


def convolve_backward(
    grad_out: Tensor, x: Tensor, weight: Tensor, bias: Tensor, silu: bool, offsets: list[int], strides: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias."""
    call = _Call(x, weight, bias, silu, offsets, strides)
    grad_out = grad_out.contiguous()
    units = x.shape[0] * -(-x.shape[1] // library.CONV_TILE)
    grad_x, grad_sum = x.new_empty(x.shape), torch.empty_like(grad_out)
    grad_weight, grad_bias = x.new_empty(units, *call.weight.shape), x.new_empty(units, *bias.shape)
    call(
        "conv_backward",
        grad_out=grad_out,
        grad_sum=grad_sum,
        grad_x=grad_x,
        grad_weight=grad_weight,
        grad_bias=grad_bias,
    )
    return grad_x, grad_weight.sum(0).T.contiguous(), grad_bias.sum(0)


class _Call:
    """The tensors of one convolution, alive for as long as a kernel reads them."""

    def __init__(
        self, x: Tensor, weight: Tensor, bias: Tensor, silu: bool, offsets: list[int], strides: list[int]
    ) -> None:
        self.x = x if x.stride(2) == 1 else x.contiguous()
        self.weight, self.bias, self.silu = weight.T.contiguous(), bias.contiguous(), silu
        self.offsets, self.strides = (torch.tensor(x, dtype=torch.int64, device="cpu") for x in (offsets, strides))

    def __call__(self, name: str, **tensors: Tensor) -> None:
        found = library.best()
        if found is None:
            raise RuntimeError("no compiled kernel can be loaded")
        (batch, tokens, channels), taps = self.x.shape, self.weight.shape[0]
        products = batch * len(self.offsets) * tokens * channels * taps
        struct = library.Convolution(
            batch=batch,
            directions=len(self.offsets),
            tokens=tokens,
            channels=channels,
            taps=taps,
            silu=self.silu,
            threads=min(torch.get_num_threads(), 1 + products // _PRODUCTS_PER_THREAD),
            x_batch=self.x.stride(0),
            x_token=self.x.stride(1),
            **{name: getattr(self, name).data_ptr() for name in ("offsets", "strides", "x", "weight", "bias")},
            **{name: tensor.data_ptr() for name, tensor in tensors.items()},
        )
        getattr(found, f"distill_{name}")(ctypes.byref(struct))
