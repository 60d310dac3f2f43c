"""UPerNet of segmentation_models_pytorch (SMP) on the maps of any student.

Source: T. Xiao et al., UPerNet, ECCV 2018 (https://arxiv.org/abs/1807.10221). The layers, their initial weights and
their names are SMP's (github.com/qubvel-org/segmentation_models.pytorch), so `decoder.*` and `segmentation_head.*` of
its models load here.

Axes: B batch, C channels, D decoder channels, K classes, H W pixels, h w grid of the finest map that is read.
"""

from typing import Any

from torch import Tensor, nn

from distill.contracts import DecoderBase, FeatureInfo
from distill.errors import UserError
from heads.parts.ranges import require_at_least
from heads.parts.smp import choose_levels, initialise, require_smp


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
        UserError: SMP is absent, no class names, maps that are not ordered from fine to coarse, no channels, or a
            checkpoint that does not fit.
    """

    def __init__(
        self,
        feature_info: FeatureInfo,
        class_names: list[str],
        channels: int = 256,
        checkpoint: str | None = None,
    ) -> None:
        super().__init__()
        smp = require_smp("UPerNet")
        require_at_least(1, channels=channels)
        self.levels = choose_levels("UPerNet", feature_info, class_names)
        self.stride = feature_info.reduction()[self.levels[0]]
        inputs = [feature_info.channels()[level] for level in self.levels]
        self.decoder = smp.decoders.upernet.decoder.UPerNetDecoder([0, 0, *inputs], decoder_channels=channels)
        self.segmentation_head = smp.base.SegmentationHead(channels, len(class_names), kernel_size=1)
        initialise(self, smp, checkpoint)

    @classmethod
    def smoke_args(cls) -> dict[str, Any]:
        """See `distill.contracts.Component`."""
        return {"channels": 16}

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


def _synchronised(module: nn.Module) -> bool:
    return any(isinstance(part, nn.SyncBatchNorm) for part in module.modules())
