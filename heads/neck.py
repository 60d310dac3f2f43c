"""From a student's maps to a pyramid: what every multi-scale head starts from.

Axes: B batch, C channels, H W the grid of one map, L maps of the student. Strides are pixels of the input per cell.
"""

from collections.abc import Callable
from itertools import pairwise
from math import gcd

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from distill.contracts import FeatureInfo
from distill.errors import UserError, unknown_name


def _layer_norm(channels: int) -> nn.Module:
    return LayerNorm2d(channels, eps=1e-6)


def _group_norm(channels: int) -> nn.Module:
    # 16 channels per group: the best fixed width in Wu & He, "Group Normalization", table 3.
    return nn.GroupNorm(gcd(channels, max(1, channels // 16)), channels)


_NORMS: dict[str, Callable[[int], nn.Module]] = {"layer": _layer_norm, "group": _group_norm, "batch": nn.BatchNorm2d}


def _conv_norm_relu(in_channels: int, out_channels: int, kernel: int, norm: str) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
    return nn.Sequential(conv, _NORMS[norm](out_channels), nn.ReLU(inplace=True))


class FeatureAggregator(nn.Module):
    """Merges the maps of a columnar student, all of one stride, into a single map.

    Each map is reduced to a few channels, then visited from shallow to deep by a residual recurrence
    s_k = x_{k-1} + f_k, x_k = s_k + C_k(s_k), and the last state is widened again.

    Source: RSPrompter (Chen et al., TGRS 2024), feature aggregator, as RS4D uses it. Two deviations. Every map that the
    student emits is used, so that the distilled last one always is; RS4D's SSDD configuration skips it. The default
    norm is LayerNorm, where the original has BatchNorm: at 1-4 images per device its statistics are unreliable.

    Args:
        in_channels: Channels C_i of the L maps, shallow to deep.
        channels: Channels of the result.
        hidden_channels: Channels inside the recurrence.
        norm: "layer", "group" or "batch".
    """

    def __init__(
        self, in_channels: list[int], channels: int = 256, hidden_channels: int = 32, norm: str = "layer"
    ) -> None:
        super().__init__()
        if norm not in _NORMS:
            raise unknown_name("neck norm", norm, _NORMS)
        width = hidden_channels
        self.reduce = nn.ModuleList(
            nn.Sequential(_conv_norm_relu(c, width, 1, norm), _conv_norm_relu(width, width, 3, norm))
            for c in in_channels
        )
        self.recur = nn.ModuleList(_conv_norm_relu(width, width, 3, norm) for _ in in_channels)
        self.fuse = nn.Sequential(
            _conv_norm_relu(width, channels, 1, norm),
            _conv_norm_relu(channels, channels, 3, norm),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps L maps (B, C_i, H, W) to one (B, channels, H, W)."""
        state: Tensor | float = 0.0
        for feature, reduce, recur in zip(features, self.reduce, self.recur, strict=True):
            total = state + reduce(feature)
            state = total + recur(total)
        return self.fuse(state)


class SimpleFPN(nn.Module):
    """Splits one map of stride s into five of strides s/4, s/2, s, 2s and 4s, without a top-down path.

    Source: Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection", ECCV 2022, sec. 3, with the
    fifth level of RS4D. Odd grids round up, so that the coarse levels cover the whole map.

    Args:
        channels: Channels of the input and of every level; a multiple of 4.
    """

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        if channels % 4:
            raise UserError(f"neck_channels must be a multiple of 4 (got {channels})")
        half, quarter = channels // 2, channels // 4
        up = nn.ConvTranspose2d
        self.resample = nn.ModuleList(
            [
                nn.Sequential(up(channels, half, 2, 2), _layer_norm(half), nn.GELU(), up(half, quarter, 2, 2)),
                up(channels, half, 2, 2),
                nn.Identity(),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
        )
        self.project = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, channels, 1),
                _layer_norm(channels),
                nn.Conv2d(channels, channels, 3, padding=1),
                _layer_norm(channels),
            )
            for width in (quarter, half, channels, channels)
        )

    def forward(self, feature: Tensor) -> list[Tensor]:
        """Maps (B, channels, H, W) to five levels (B, channels, H_l, W_l), finest first."""
        levels = [project(resample(feature)) for resample, project in zip(self.resample, self.project, strict=True)]
        return [*levels, F.max_pool2d(levels[-1], kernel_size=1, stride=2)]


class Neck(nn.Module):
    """The pyramid that fits a student: aggregator and simple FPN for maps of one stride, else a top-down FPN.

    Attributes:
        strides: Stride of each level, in pixels, finest first; at least five levels, each twice the one before in a
            columnar student.

    Args:
        feature_info: Channels and strides of the student's maps.
        channels: Channels of every level.
        norm: Norm of the aggregator: "layer", "group" or "batch". A top-down FPN has none.
        hidden_channels: Width inside the aggregator.

    Raises:
        UserError: The student's strides do not make a pyramid.
    """

    def __init__(
        self, feature_info: FeatureInfo, channels: int = 256, norm: str = "layer", hidden_channels: int = 32
    ) -> None:
        super().__init__()
        in_channels, reductions = list(feature_info.channels()), list(feature_info.reduction())
        if len(set(reductions)) == 1:
            stride = reductions[0]
            if stride % 4:
                raise UserError(f"the neck needs a student stride that is a multiple of 4 pixels (got {stride})")
            self.strides = [stride // 4, stride // 2, stride, 2 * stride, 4 * stride]
            self.pyramid: nn.Module = nn.Sequential(
                FeatureAggregator(in_channels, channels, hidden_channels, norm), SimpleFPN(channels)
            )
            self.pyramid.apply(_let_content_through)
        elif all(fine < coarse for fine, coarse in pairwise(reductions)):
            extra = max(0, 5 - len(reductions))
            self.strides = reductions + [reductions[-1] * 2**i for i in range(1, extra + 1)]
            self.pyramid = _top_down_fpn(in_channels, channels, len(self.strides))
        else:
            raise UserError(
                f"the neck cannot order feature maps of strides {reductions}; let the student emit maps of one stride, "
                "or of strictly growing strides (`out_indices`)"
            )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Maps the student's L maps (B, C_i, H_i, W_i) to levels (B, channels, H_l, W_l), finest first."""
        return list(self.pyramid(features))


def _let_content_through(module: nn.Module) -> None:
    """Initial weights with which the pyramid shows what the student's maps show.

    With PyTorch's, three quarters of each level's energy is constant over the image and nearly all of the rest a 2 x 2
    pattern of the transposed convolutions, so that the head first has to unlearn its neck. Kernels that sum to zero
    take away the constant, which is the mean that ReLUs add; equal kernels for the four pixels that a transposed
    convolution makes of one take away the pattern (Aitken et al., https://arxiv.org/abs/1707.02937).
    """
    if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        return
    weight = module.weight
    with torch.no_grad():
        if isinstance(module, nn.ConvTranspose2d):  # (in, out, 2, 2)
            kernel = torch.randn_like(weight[:, :, :1, :1]) * weight.shape[0] ** -0.5
            weight.copy_((kernel - kernel.mean(0, keepdim=True)).expand_as(weight))
        else:  # (out, in, k, k)
            nn.init.kaiming_normal_(weight)
            weight.sub_(weight.mean((1, 2, 3), keepdim=True))
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _top_down_fpn(in_channels: list[int], channels: int, levels: int) -> nn.Module:
    from heads.mmcv_ops import ensure_mmcv_ops

    ensure_mmcv_ops()
    from mmdet.models.necks import FPN

    fpn = FPN(in_channels, channels, num_outs=levels)
    fpn.init_weights()
    return fpn
