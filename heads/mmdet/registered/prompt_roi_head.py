"""Proposals and regions where a map of the whole image follows the pyramid: RSPrompter-anchor's parts for MMDetection.

In a config: `DistillRPNHead`, `DistillPromptRoIHead` and `DistillPromptMaskHead`, on the levels that
`DistillNeck(image_map=True)` gives. Axes: B batch, C channels, H W the grid of a level, R regions.
"""

from typing import Any

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from heads.mmdet.registered.prompt_mask_head import PromptMaskHead

__all__ = ["PromptMaskHead", "PromptRoIHead", "PyramidRPNHead"]


@MODELS.register_module(name="DistillRPNHead")
class PyramidRPNHead(RPNHead):
    """MMDetection's `RPNHead` on the levels that have anchors; ignores further maps."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Scores and boxes of each level."""
        result: tuple[list[Tensor], list[Tensor]] = super().forward(x[: self.prior_generator.num_levels])
        return result


@MODELS.register_module(name="DistillPromptRoIHead")
class PromptRoIHead(StandardRoIHead):
    """MMDetection's `StandardRoIHead` whose mask head sees the whole image.

    A positional encoding is added to the levels, so that the features of a region say where it lies in the image.

    Source: RSPrompter-anchor.

    Args:
        positional_encoding: In MMDetection's notation; as wide as the levels.
        kwargs: Of `StandardRoIHead`.
    """

    def __init__(self, positional_encoding: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.positional_encoding = MODELS.build(positional_encoding)

    def loss(self, x: list[Tensor], rpn_results_list: list[Any], batch_data_samples: list[Any]) -> dict[str, Any]:
        """Losses of boxes and masks from the levels and, last, the image map."""
        losses: dict[str, Any] = super().loss(self.placed(x), rpn_results_list, batch_data_samples)
        return losses

    def predict(
        self, x: list[Tensor], rpn_results_list: list[Any], batch_data_samples: list[Any], rescale: bool = False
    ) -> list[Any]:
        """Boxes and masks from the levels and, last, the image map."""
        results: list[Any] = super().predict(self.placed(x), rpn_results_list, batch_data_samples, rescale)
        return results

    def forward(self, x: list[Tensor], rpn_results_list: list[Any], batch_data_samples: Any = None) -> tuple[Any, ...]:
        """Raw outputs of both heads."""
        outputs: tuple[Any, ...] = super().forward(self.placed(x), rpn_results_list, batch_data_samples)
        return outputs

    def _mask_forward(self, x: list[Tensor], rois: Tensor) -> dict[str, Tensor]:
        regions = self.mask_roi_extractor(x[: self.mask_roi_extractor.num_inputs], rois)
        return {"mask_preds": self.mask_head(regions, x[-1], rois[:, 0]), "mask_feats": regions}

    def placed(self, x: list[Tensor]) -> list[Tensor]:
        """Levels (B, C, H, W) with positional encoding; the image map, last, as it is."""
        *levels, image_map = x
        height, width = levels[0].shape[2:]
        code = self.positional_encoding(torch.zeros(1, height, width, dtype=torch.bool, device=image_map.device))
        return [
            *(level + F.interpolate(code, level.shape[2:], mode="bilinear", align_corners=False) for level in levels),
            image_map,
        ]
