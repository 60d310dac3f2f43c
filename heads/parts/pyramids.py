"""Pyramids: one map split into five strides, or the maps of a hierarchical student joined.

Axes: B batch, C channels, H W the grid of one map.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from heads.mmdet.building import build
from heads.parts.norms import layer_norm, mmcv_norm


class SimpleFPN(nn.Module):
    """Splits one map of stride s into five of strides s/4, s/2, s, 2s and 4s, without a top-down path.

    With `skip_finest` they are s/2, s, 2s, 4s and 8s: three quarters of the cells of the other five lie at s/4.

    With `path_aggregation` every level but the finest adds the finer one, halved, and passes its last convolution
    once more: o_i <- P_i(o_i + halve(o_{i-1})).

    Source: Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection", ECCV 2022, sec. 3, with the
    fifth level of RS4D; path aggregation is the "Pa" pyramid of RS4D's NWPU ablations, known from its code alone, which
    differs from PANet's in sharing the convolution. Odd grids round up, so that the coarse levels cover the whole map.

    Args:
        channels: Channels of the input and of every level; a multiple of 4.
        path_aggregation: Whether finer levels flow into coarser ones.
        skip_finest: Whether the levels start at s/2.
    """

    def __init__(self, channels: int = 256, path_aggregation: bool = False, skip_finest: bool = False) -> None:
        super().__init__()
        self.path_aggregation = path_aggregation
        self._pooled = 2 if skip_finest else 1  # levels that are subsampled from the one before
        first = 1 if skip_finest else 0
        half, quarter = channels // 2, channels // 4
        up = nn.ConvTranspose2d
        self.resample = nn.ModuleList(
            [
                nn.Sequential(up(channels, half, 2, 2), layer_norm(half), nn.GELU(), up(half, quarter, 2, 2)),
                up(channels, half, 2, 2),
                nn.Identity(),
                nn.MaxPool2d(2, ceil_mode=True),
            ][first:]
        )
        self.project = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, channels, 1),
                layer_norm(channels),
                nn.Conv2d(channels, channels, 3, padding=1),
                layer_norm(channels),
            )
            for width in (quarter, half, channels, channels)[first:]
        )

    def forward(self, feature: Tensor) -> list[Tensor]:
        """Maps (B, channels, H, W) to five levels (B, channels, H_l, W_l), finest first."""
        levels = [project(resample(feature)) for resample, project in zip(self.resample, self.project, strict=True)]
        if self.path_aggregation:
            for i in range(1, len(levels)):
                halved = F.interpolate(levels[i - 1], levels[i].shape[2:], mode="bilinear", align_corners=False)
                levels[i] = self.project[i][2:](levels[i] + halved)  # type: ignore[index]
        for _ in range(self._pooled):
            levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
        return levels


def top_down_fpn(
    in_channels: list[int], channels: int, levels: int, norm: str = "layer", path_aggregation: bool = False
) -> nn.Module:
    """MMDetection's FPN, initialised; with path aggregation its PAFPN.

    Source: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, and Liu et al., "Path Aggregation
    Network for Instance Segmentation", CVPR 2018. Both are published without a norm: `norm="none"`.

    Args:
        in_channels: Channels of the student's maps, finest first.
        channels: Channels of every level.
        levels: Number of levels; those beyond the student's are subsampled from its coarsest.
        norm: See `heads.parts.norms.build_norm`.
        path_aggregation: Whether a bottom-up path follows the top-down one.

    Raises:
        UserError: Unknown norm.
    """
    return build(
        {
            "type": "PAFPN" if path_aggregation else "FPN",
            "in_channels": in_channels,
            "out_channels": channels,
            "num_outs": levels,
            "norm_cfg": mmcv_norm(norm, channels),
        }
    )
