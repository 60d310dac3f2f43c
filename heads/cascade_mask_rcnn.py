"""Cascade Mask R-CNN with the settings of MMDetection."""

from typing import Any

from heads.two_stage import TwoStageHead
from heads.two_stage_config import (
    TwoStageSettings,
    box_head,
    mask_head,
    matching,
    region_extractors,
    rpn_head,
    test_cfg,
    train_cfg,
)

# Of the three steps: IoU that makes a region positive, spread of its box targets, weight of its losses.
_OVERLAPS = (0.5, 0.6, 0.7)
_SPREADS = (1 / 10, 1 / 20, 1 / 30)
_WEIGHTS = (1.0, 0.5, 0.25)


class CascadeMaskRCNN(TwoStageHead):
    """Cascade Mask R-CNN: three steps, each trained on the boxes of the one before it and for a closer fit.

    Arguments are those of `TwoStageHead`. In `overrides`, `roi_head.bbox_head`, `roi_head.mask_head` and
    `train_cfg.rcnn` are lists: `roi_head.bbox_head.loss_bbox.type` sets all three steps,
    `roi_head.bbox_head.2.loss_bbox.type` the last.

    Source: Cai and Vasconcelos, "Cascade R-CNN: High Quality Object Detection and Instance Segmentation", TPAMI 2021,
    as MMDetection configures it. Three deviations, so that proposals are those of `MaskRCNN`: 1000 per image instead
    of 2000 in training, their smooth-L1 loss bends at 1 instead of 1/9, and anchors may leave the image. Crowds are
    ignored, as there.
    """

    detector = "CascadeRCNN"

    def sections(self, settings: TwoStageSettings) -> dict[str, Any]:
        """See `TwoStageHead.sections`."""
        return {
            "rpn_head": rpn_head(settings),
            "roi_head": {
                "type": "CascadeRoIHead",
                "num_stages": len(_WEIGHTS),
                "stage_loss_weights": list(_WEIGHTS),
                **region_extractors(settings),
                "bbox_head": [box_head(settings, spread, class_agnostic=True) for spread in _SPREADS],
                "mask_head": [mask_head(settings) for _ in _WEIGHTS],
            },
            "train_cfg": train_cfg(settings, [matching(overlap, settings, low_quality=False) for overlap in _OVERLAPS]),
            "test_cfg": test_cfg(settings),
        }
