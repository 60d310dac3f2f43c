"""The neck of the multi-scale heads: from a student's maps to a pyramid.

Axes: B batch, C channels, H W the grid of one map, L maps of the student. Strides are pixels of the input per cell.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from distill.contracts import FeatureInfo
from distill.errors import UserError
from heads.parts.aggregator import FeatureAggregator
from heads.parts.pyramids import SimpleFPN, top_down_fpn
from heads.parts.ranges import require_at_least

_LEVELS = 5  # at least
_IMAGE_STRIDE = 16  # of the image embedding that SAM's mask decoder was trained on


class Neck(nn.Module):
    """The pyramid that fits a student: aggregator and simple FPN for maps of one stride, else a top-down FPN.

    Attributes:
        strides: Stride of each level, in pixels, finest first; at least five levels, each twice the one before in a
            columnar student.
        image_channels: Channels of the image map.
        image_stride: Stride of the image map, in pixels.
        mmdet_config: The same neck in MMDetection's notation, see `heads.mmdet.registered.student.DistillNeck`.

    Args:
        feature_info: Channels and strides of the student's maps.
        channels: Channels of every level; a multiple of 4, into which the simple FPN and codes of places split them.
        norm: Norm of the aggregator or of the top-down FPN: "layer", "group", "batch" or "none". The simple FPN always
            has layer norms, as published.
        hidden_channels: Width inside the aggregator.
        two_way: Whether the aggregator visits the maps from deep to shallow as well.
        path_aggregation: Whether finer levels flow into coarser ones at the end.
        image_map: Whether a map of the whole image follows the levels: the student's last, which is the distilled one,
            or, where its stride is above 16, the level of the pyramid next to that stride.
        skip_finest: Whether the levels start one stride later: at half of a columnar student's stride, or at the second
            map of a hierarchical one, whose first map is not read.

    Raises:
        UserError: The student's strides do not make a pyramid, or a setting does not fit it.
    """

    def __init__(
        self,
        feature_info: FeatureInfo,
        channels: int = 256,
        norm: str = "layer",
        hidden_channels: int = 32,
        two_way: bool = False,
        path_aggregation: bool = False,
        image_map: bool = False,
        skip_finest: bool = False,
    ) -> None:
        super().__init__()
        require_at_least(1, neck_channels=channels, neck_hidden=hidden_channels)
        if channels % 4:
            raise UserError(f"model.head.neck_channels is {channels}; it must be a multiple of 4")
        in_channels, reductions = list(feature_info.channels()), list(feature_info.reduction())
        self._unread = 0  # of the student's first maps
        if len(set(reductions)) == 1:
            stride = reductions[0]
            if stride % 4:
                raise UserError(f"the neck needs a student stride that is a multiple of 4 pixels (got {stride})")
            finest = stride // 2 if skip_finest else stride // 4
            self.strides = [finest * 2**level for level in range(_LEVELS)]
            self.pyramid: nn.Module = nn.Sequential(
                FeatureAggregator(in_channels, channels, hidden_channels, norm, two_way),
                SimpleFPN(channels, path_aggregation, skip_finest),
            )
            self.pyramid.apply(_zero_mean_icnr)
        elif all(fine < coarse for fine, coarse in pairwise(reductions)):
            if two_way:
                raise UserError(
                    f"neck_two_way is for students whose maps share one stride (got strides {reductions}); "
                    "for a bottom-up path over a hierarchical student set neck_path_aggregation"
                )
            self._unread = 1 if skip_finest else 0
            read = reductions[self._unread :]
            extra = max(0, _LEVELS - len(read))
            self.strides = read + [read[-1] * 2**i for i in range(1, extra + 1)]
            self.pyramid = top_down_fpn(
                in_channels[self._unread :], channels, len(self.strides), norm, path_aggregation
            )
        else:
            raise UserError(
                f"the neck cannot order feature maps of strides {reductions}; let the student emit maps of one stride, "
                "or of strictly growing strides (`out_indices`)"
            )
        self.image_map = image_map
        # None for the student's last map.
        self._image_level = _level_of_stride(_IMAGE_STRIDE, self.strides) if reductions[-1] > _IMAGE_STRIDE else None
        self.image_channels = in_channels[-1] if self._image_level is None else channels
        self.image_stride = reductions[-1] if self._image_level is None else self.strides[self._image_level]
        self.mmdet_config: dict[str, Any] = {
            "type": "DistillNeck",
            "in_channels": in_channels,
            "strides": reductions,
            "out_channels": channels,
            "norm": norm,
            "hidden_channels": hidden_channels,
            "two_way": two_way,
            "path_aggregation": path_aggregation,
            "image_map": image_map,
            "skip_finest": skip_finest,
        }

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Maps the student's L maps (B, C_i, H_i, W_i) to levels (B, channels, H_l, W_l), finest first.

        With `image_map`, a map (B, image_channels, H', W') of stride `image_stride` comes last.
        """
        levels = list(self.pyramid(features[self._unread :]))
        if self.image_map:
            levels.append(features[-1] if self._image_level is None else levels[self._image_level])
        return levels


def _level_of_stride(stride: int, strides: list[int]) -> int:
    """Index of the finest level that is not finer than `stride`."""
    return next(index for index, own in enumerate(strides) if own >= stride)


def _zero_mean_icnr(module: nn.Module) -> None:
    """Zero-mean and ICNR initialisation.

    With PyTorch's initial weights, three quarters of each level's energy is constant over the image, and nearly all of
    the rest is a 2 x 2 pattern of the transposed convolutions. Kernels that sum to zero remove the constant, which is
    the mean that ReLUs add. Equal kernels for the four pixels of a transposed convolution remove the pattern (ICNR,
    Aitken et al., https://arxiv.org/abs/1707.02937).
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
