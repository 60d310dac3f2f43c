"""Blocks of LALE: RMSNorm, ConvMixer blocks and transformer blocks, on maps.

Source: M. Çağlar, A. Temizel, LALE, ICMV 2026 (https://arxiv.org/abs/2606.02092). A reconstruction, see
`students.lale`; that both blocks norm the input of each residual branch is part of it.

Axes: B batch, C channels, N positions, d channels of an attention head, h w grid.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.layers import StarReLU

_EXPANSION, _HEAD_CHANNELS = 4, 32


class RMSNorm2d(nn.Module):
    """Divides every position by the root mean square of its channels; a gain per channel, no bias.

    The statistic is taken in float32 at least, so that float16 activations above 255 do not overflow.

    Args:
        channels: Channels C.
        eps: Added to the mean square.

    Source: Zhang and Sennrich (https://arxiv.org/abs/1910.07467), equation 4.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, h, w) to (B, C, h, w)."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        wide = wide * torch.rsqrt(wide.square().mean(1, keepdim=True) + self.eps)
        return (wide * self.weight[:, None, None]).to(x.dtype)


class ConvMixerBlock(nn.Module):
    """A depthwise convolution over positions, then two pointwise ones over channels, each on a normed residual.

    Args:
        channels: Channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = RMSNorm2d(channels)
        self.mixer = _depthwise(channels)
        self.norm2 = RMSNorm2d(channels)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, _EXPANSION * channels, 1),
            StarReLU(),
            nn.Conv2d(_EXPANSION * channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, h, w) to (B, C, h, w)."""
        x = x + self.mixer(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Multi-head self-attention over all positions, without position embedding or spatial reduction.

    Args:
        channels: Channels C, a multiple of 32, the channels of a head.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, h, w) to (B, C, h, w)."""
        # (B, N, 3C): the fused kernels need a head's channels side by side; in channels_last they are already.
        tokens = self.qkv(x).flatten(2).transpose(1, 2).contiguous()
        q, k, v = tokens.unflatten(2, (3, -1, _HEAD_CHANNELS)).permute(2, 0, 3, 1, 4)  # (B, heads, N, d)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.proj(mixed.transpose(1, 2).unflatten(2, x.shape[2:]))


class TransformerBlock(nn.Module):
    """Self-attention, then a ConvMLP: pointwise, depthwise (which tells positions apart), StarReLU, pointwise.

    Args:
        channels: Channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = RMSNorm2d(channels)
        self.attention = Attention(channels)
        self.norm2 = RMSNorm2d(channels)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, _EXPANSION * channels, 1),
            _depthwise(_EXPANSION * channels),
            StarReLU(),
            nn.Conv2d(_EXPANSION * channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, h, w) to (B, C, h, w)."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def _depthwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
