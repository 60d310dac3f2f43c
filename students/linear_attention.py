"""ReLU linear attention over several scales: in fp32 as released, and in half precision without overflow.

    out_i = Σ_j v_j (k_j · q_i) / (Σ_j k_j · q_i + ε),   q and k after a ReLU

Source: H. Cai et al., EfficientViT, ICCV 2023 (https://arxiv.org/abs/2205.14756), equations 1 to 3, and its code
(github.com/mit-han-lab/efficientvit). The code switches to the quadratic form on maps of fewer tokens than
channels per head; both are one function, so that the linear form alone runs here, on maps of any size.

Axes: B batch, h heads of all scales, d channels of a head, N tokens, C map channels, H W grid, S scales.
"""

from contextlib import nullcontext
from functools import partial

import torch
from timm.models.efficientvit_mit import ConvNormAct
from torch import Tensor, nn

from distill.errors import unknown_name

PRECISIONS = ("float32", "input")
_HALF = (torch.float16, torch.bfloat16)
_FLOOR = 1e-4  # of the mean query: bounds the gradient of a query in half precision by 1e4 times that of its output


def linear_attention(q: Tensor, k: Tensor, v: Tensor, eps: float = 1e-15) -> Tensor:
    """ReLU linear attention in float32 or better, at a cost of N d².

    Args:
        q: Queries before the ReLU, (B, h, d, N).
        k: Keys before the ReLU, (B, h, d, N).
        v: Values (B, h, d, N).
        eps: ε; 1e-15 in the released models, 1e-5 in timm's.

    Returns:
        (B, h, d, N) in the dtype of `v`.
    """
    dtype = torch.promote_types(v.dtype, torch.float32)
    queries, keys, values = q.relu().to(dtype), k.relu().to(dtype), v.to(dtype)
    # One product yields numerators and denominator: the sum of the keys is one more row of the d x d summary.
    summary = torch.cat([values @ keys.transpose(-1, -2), keys.sum(-1).unsqueeze(-2)], dim=-2)
    numerator, denominator = (summary @ queries).split([v.shape[-2], 1], dim=-2)
    # With an axis: the optimizer of ONNX exports takes a scalar below 1e-8 for zero and leaves it out.
    return (numerator / (denominator + denominator.new_full((1,), eps))).to(v.dtype)


def half_linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`linear_attention` with both matrix products in the half precision of its input.

    As published, the sums over tokens leave the range of fp16 (on 4096 tokens, with queries and keys of deviation 4),
    and so do the gradients of the quotient. Here each channel of the keys is divided by its sum before the product, and
    the sums are carried over to the queries, which are divided by their total:

        out_i = Σ_c w_ic Σ_j v_j k_jc / m_c,   m_c = Σ_j k_jc,   w_ic = q_ic m_c / Σ_c q_ic m_c

    Both products are weighted means, so that nothing exceeds the largest value. Sums and quotients are fp32. Queries
    below 1e-4 of the mean query fade to zero, where the published form, which does not depend on their length, has an
    unbounded gradient.

    Args:
        q: Queries before the ReLU, (B, h, d, N), float16 or bfloat16, as `k` and `v`.
        k: Keys before the ReLU, (B, h, d, N).
        v: Values (B, h, d, N).

    Returns:
        (B, h, d, N) in the dtype of `v`.
    """
    queries, keys = q.relu().float(), k.relu().float()
    root = k.shape[-1] ** -0.5  # half of 1 / N to each factor: all of it would push one of them below fp16's range
    sums = keys.sum(-1, keepdim=True)
    shares = (keys / (root * sums).clamp_min(torch.finfo(torch.float32).tiny)).to(v.dtype)
    weights = queries * sums
    total = weights.sum(-2, keepdim=True)
    floor = _FLOOR * total.detach().mean(-1, keepdim=True)
    weights = (weights / total.clamp_min(floor).clamp_min(torch.finfo(torch.float32).tiny)).to(v.dtype)
    return ((v * root) @ shares.transpose(-1, -2)) @ weights


class MultiScaleLinearAttention(nn.Module):
    """EfficientViT's attention: queries, keys and values of every pixel, and of its neighbourhood at each scale.

    Parameters carry the names of timm's and the released module. The 3d channels of a head lie together: d of the
    queries, d of the keys, d of the values.

    Args:
        channels: C.
        head_dim: d; C is a multiple of it.
        scales: Sides in pixels of the depthwise convolutions that aggregate neighbourhoods.
        norm_eps: ε of the batch norm after the projection.
        eps: ε of the attention in float32.
        precision: "float32" casts half-precision input to float32, as released; "input" keeps the matrix products in
            it (see `half_linear_attention`). Both are the same on float32 input.

    Raises:
        UserError: Unknown precision.
    """

    def __init__(
        self,
        channels: int,
        head_dim: int,
        scales: tuple[int, ...] = (5,),
        norm_eps: float = 1e-5,
        eps: float = 1e-15,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise unknown_name("precision of linear attention", precision, PRECISIONS)
        self.head_dim, self.eps, self.precision = head_dim, eps, precision
        self.qkv = ConvNormAct(channels, 3 * channels, 1, norm_layer=None, act_layer=None)
        self.aggreg = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(3 * channels, 3 * channels, scale, padding=scale // 2, groups=3 * channels, bias=False),
                nn.Conv2d(3 * channels, 3 * channels, 1, groups=3 * (channels // head_dim), bias=False),
            )
            for scale in scales
        )
        norm = partial(nn.BatchNorm2d, eps=norm_eps)
        self.proj = ConvNormAct((1 + len(scales)) * channels, channels, 1, norm_layer=norm, act_layer=None)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, H, W), without the residual."""
        qkv = self.qkv(x)
        maps = torch.cat([qkv, *(aggregate(qkv) for aggregate in self.aggreg)], dim=1)
        heads = maps.flatten(2).unflatten(1, (-1, 3 * self.head_dim))
        # The meta device knows no autocast.
        with nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False):
            out = self._attention(*heads.chunk(3, dim=2))
        return self.proj(out.flatten(1, 2).unflatten(2, x.shape[-2:]))

    def _attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.precision == "input" and v.dtype in _HALF:
            return half_linear_attention(q, k, v)
        return linear_attention(q, k, v, self.eps)
