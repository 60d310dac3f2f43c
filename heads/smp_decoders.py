"""UPerNet and FPN of segmentation_models_pytorch (SMP) on the maps of any student: the usual baselines.

Sources: T. Xiao et al., UPerNet, ECCV 2018 (https://arxiv.org/abs/1807.10221); T.-Y. Lin et al., FPN, CVPR 2017
(https://arxiv.org/abs/1612.03144), with the branches of A. Kirillov et al., Panoptic FPN, CVPR 2019
(https://arxiv.org/abs/1901.02446), figure 3. The layers, their initial weights and their names are SMP's
(github.com/qubvel-org/segmentation_models.pytorch), so `decoder.*` and `segmentation_head.*` of its models load here.

Axes: B batch, C channels, D decoder channels, K classes, H W pixels, h w grid of the finest map that is read.
"""

from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.contracts import DecoderBase, FeatureInfo
from distill.errors import UserError
from distill.weights import load_matching, read_state_dict

_LEVELS = 4  # maps that SMP's decoders read of the usual encoder: strides 4 to 32
_GROUPS = 32  # of the group norms in SMP's FPN


class UPerNet(DecoderBase):
    """SMP's UPerNet without its encoder: pyramid pooling on the deepest map, a top-down FPN, all levels fused.

    Four maps are read: the last, or of more maps of one stride evenly spaced ones and the last. Fewer make a pyramid of
    fewer levels. Levels meet on the grid of a map, whatever it is, so that maps of one stride stay on it.

    Args:
        feature_info: Channels and strides of the student's maps, the finest first; supplied by the framework.
        class_names: Classes of the data, in label order; supplied by the framework.
        channels: Decoder channels D; SMP's default.
        checkpoint: A state dict of this head.

    Raises:
        UserError: SMP is absent, no class names, maps that are not ordered from fine to coarse, or a checkpoint that
            does not fit.
    """

    def __init__(
        self,
        feature_info: FeatureInfo,
        class_names: list[str],
        channels: int = 256,
        checkpoint: str | None = None,
    ) -> None:
        super().__init__()
        smp = _smp("UPerNet")
        self.levels = _choose("UPerNet", feature_info, class_names)
        self.stride = feature_info.reduction()[self.levels[0]]
        inputs = [feature_info.channels()[level] for level in self.levels]
        self.decoder = smp.decoders.upernet.decoder.UPerNetDecoder([0, 0, *inputs], decoder_channels=channels)
        self.segmentation_head = smp.base.SegmentationHead(channels, len(class_names), kernel_size=1)
        _finish(self, smp, checkpoint)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps the student's maps (B, C_i, h_i, w_i) to logits (B, K, h, w).

        Resizing to the image is the caller's; SMP's models do it themselves, with aligned corners.

        Raises:
            UserError: One image in training mode, of whose pooled map no batch norm can take a variance.
        """
        if self.training and len(features[0]) == 1 and not _synchronised(self):
            raise UserError(
                "UPerNet's batch norms need 2 images or more a training step (got 1): raise data.batch_size, "
                "or choose heads.FPNDecoder"
            )
        maps = [features[level] for level in self.levels]
        # The decoder skips the two first, which in SMP are the image and the map of stride 2.
        logits: Tensor = self.segmentation_head(self.decoder([features[0], features[0], *maps]))
        return logits


class FPNDecoder(DecoderBase):
    """SMP's FPN without its encoder: a top-down FPN, each level convolved up to the finest, and their sum.

    Four maps are read, as by `UPerNet`; of fewer the finest is read again. SMP doubles a level to reach the next, which
    takes sides that are multiples of the coarsest stride. Here it is resized to the grid of the next: the same on such
    sides, and defined for every other and for maps of one stride.

    Args:
        feature_info: Channels and strides of the student's maps, the finest first; supplied by the framework.
        class_names: Classes of the data, in label order; supplied by the framework.
        channels: Channels of the pyramid; SMP's default.
        segmentation_channels: Decoder channels D behind it, a multiple of 32; SMP's default.
        dropout: Probability with which a channel of the sum is dropped in training; SMP's default.
        checkpoint: A state dict of this head.

    Raises:
        UserError: SMP is absent, no class names, maps that are not ordered from fine to coarse, channels that cannot be
            grouped, or a checkpoint that does not fit.
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
        smp = _smp("FPNDecoder")
        if segmentation_channels % _GROUPS:
            raise UserError(
                f"FPNDecoder segmentation_channels is {segmentation_channels}; its group norms allow multiples of "
                f"{_GROUPS}"
            )
        levels = _choose("FPNDecoder", feature_info, class_names)
        self.levels = levels[:1] * (_LEVELS - len(levels)) + levels
        self.stride = feature_info.reduction()[self.levels[0]]
        inputs = [feature_info.channels()[level] for level in self.levels]
        self.decoder = smp.decoders.fpn.decoder.FPNDecoder(
            inputs,
            pyramid_channels=channels,
            segmentation_channels=segmentation_channels,
            dropout=dropout,
        )
        self.segmentation_head = smp.base.SegmentationHead(segmentation_channels, len(class_names), kernel_size=1)
        _finish(self, smp, checkpoint)

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


def _smp(head: str) -> ModuleType:
    """The package, which is an extra."""
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise UserError(
            f"heads.{head} needs segmentation_models_pytorch ({error}): pip install 'distill-rs[smp]', "
            "or choose heads.LALEDecoder"
        ) from error
    return smp


def _choose(head: str, feature_info: FeatureInfo, class_names: list[str]) -> list[int]:
    """Indices of the maps that are read, finest first.

    Of many maps of one stride every fourth part of the depth gives one, as in DPT (https://arxiv.org/abs/2103.13413,
    section 3: layers 3, 6, 9 and 12 of ViT-B).
    """
    if not class_names:
        raise UserError(f"{head} needs at least one class; the data names none")
    strides = list(feature_info.reduction())
    if strides != sorted(strides):
        raise UserError(
            f"{head} reads maps from fine to coarse (got strides {strides}); let the student emit growing strides "
            "(`out_indices`)"
        )
    count = len(strides)
    if len(set(strides)) > 1 or count <= _LEVELS:
        return list(range(count))[-_LEVELS:]
    return [count * quarter // _LEVELS - 1 for quarter in range(1, _LEVELS + 1)]


def _finish(head: nn.Module, smp: ModuleType, checkpoint: str | None) -> None:
    """Draws the initial weights as SMP does, then loads the checkpoint."""
    smp.base.initialization.initialize_decoder(head.decoder)
    smp.base.initialization.initialize_head(head.segmentation_head)
    if checkpoint is not None:
        load_matching(head, read_state_dict(checkpoint), checkpoint)


def _synchronised(module: nn.Module) -> bool:
    return any(isinstance(part, nn.SyncBatchNorm) for part in module.modules())


def _nearest(x: Tensor, grid: torch.Size) -> Tensor:
    return x if x.shape[-2:] == grid else F.interpolate(x, grid, mode="nearest")


def _aligned(x: Tensor, grid: torch.Size) -> Tensor:
    return x if x.shape[-2:] == grid else F.interpolate(x, grid, mode="bilinear", align_corners=True)
