"""FPN of segmentation_models_pytorch (SMP) on the maps of any student.

Sources: T.-Y. Lin et al., FPN, CVPR 2017 (https://arxiv.org/abs/1612.03144), with the branches of A. Kirillov et al.,
Panoptic FPN, CVPR 2019 (https://arxiv.org/abs/1901.02446), figure 3. The layers, their initial weights and their names
are SMP's (github.com/qubvel-org/segmentation_models.pytorch), so `decoder.*` and `segmentation_head.*` of its models
load here.

Axes: B batch, C channels, D decoder channels, K classes, H W pixels, h w grid of the finest map that is read.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from distill.contracts import DecoderBase, FeatureInfo
from distill.errors import UserError
from heads.parts.ranges import require_at_least, require_share
from heads.parts.smp import LEVELS, choose_levels, initialise, require_smp

_GROUPS = 32  # of the group norms in SMP's FPN


class FPNDecoder(DecoderBase):
    """SMP's FPN without its encoder: a top-down FPN whose levels are convolved to the finest grid and summed.

    Four maps are read, as by `UPerNet`; of fewer the finest is read again. SMP doubles a level to reach the next, which
    takes sides that are multiples of the coarsest stride. Here it is resized to the grid of the next: the same on such
    sides, and defined for every other and for maps of one stride.

    Args:
        feature_info: Channels and strides of the student's maps, the finest first; supplied by the framework.
        class_names: Classes of the data, in label order; supplied by the framework.
        channels: Channels of the pyramid; SMP's default.
        segmentation_channels: Decoder channels D after it, a multiple of 32; SMP's default.
        dropout: Probability with which a channel of the sum is dropped in training; SMP's default.
        checkpoint: A state dict of this head.

    Raises:
        UserError: SMP is absent, no class names, maps that are not ordered from fine to coarse, channels that cannot be
            grouped, a number out of range, or a checkpoint that does not fit.
    """

    def __init__(
        self,
        feature_info: FeatureInfo,
        class_names: list[str],
        channels: int = 256,
        segmentation_channels: int = 128,
        dropout: float = 0.2,
        checkpoint: str | None = None,
    ) -> None:
        super().__init__()
        smp = require_smp("FPNDecoder")
        require_at_least(1, channels=channels, segmentation_channels=segmentation_channels)
        require_share(dropout=dropout)
        if segmentation_channels % _GROUPS:
            raise UserError(
                f"FPNDecoder segmentation_channels is {segmentation_channels}; its group norms allow multiples of "
                f"{_GROUPS}"
            )
        levels = choose_levels("FPNDecoder", feature_info, class_names)
        self.levels = levels[:1] * (LEVELS - len(levels)) + levels
        self.stride = feature_info.reduction()[self.levels[0]]
        inputs = [feature_info.channels()[level] for level in self.levels]
        self.decoder = smp.decoders.fpn.decoder.FPNDecoder(
            inputs,
            pyramid_channels=channels,
            segmentation_channels=segmentation_channels,
            dropout=dropout,
        )
        self.segmentation_head = smp.base.SegmentationHead(segmentation_channels, len(class_names), kernel_size=1)
        initialise(self, smp, checkpoint)

    @classmethod
    def smoke_args(cls) -> dict[str, Any]:
        """See `distill.contracts.Component`."""
        return {"channels": 32, "segmentation_channels": 32}

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps the student's maps (B, C_i, h_i, w_i) to logits (B, K, h, w).

        Resizing to the image is the caller's; SMP's models do it themselves, with aligned corners.
        """
        decoder = self.decoder
        deepest, *finer = [features[level] for level in reversed(self.levels)]
        pyramid = [decoder.p5(deepest)]
        for block, feature in zip((decoder.p4, decoder.p3, decoder.p2), finer, strict=True):
            pyramid.append(_nearest(pyramid[-1], feature.shape[-2:]) + block.skip_conv(feature))
        grids = [level.shape[-2:] for level in pyramid]
        branches = []
        for index, (branch, level) in enumerate(zip(decoder.seg_blocks, pyramid, strict=True)):
            # A step for every finer grid; the finest level takes one step, on its own.
            for step, grid in zip(branch.block, grids[index + 1 :] or grids[-1:], strict=True):
                level = _aligned(step.block(level), grid)
            branches.append(level)
        logits: Tensor = self.segmentation_head(decoder.dropout(decoder.merge(branches)))
        return logits


def _nearest(x: Tensor, grid: torch.Size) -> Tensor:
    return x if x.shape[-2:] == grid else F.interpolate(x, grid, mode="nearest")


def _aligned(x: Tensor, grid: torch.Size) -> Tensor:
    return x if x.shape[-2:] == grid else F.interpolate(x, grid, mode="bilinear", align_corners=True)
