"""Cascade Mask R-CNN with the settings of MMDetection."""

from typing import Any

from heads.mmdet.two_stage import TwoStageHead
from heads.mmdet.two_stage_config import (
    TwoStageSettings,
    assigner_cfg,
    box_head,
    mask_head,
    region_extractors,
    rpn_head,
    test_cfg,
    train_cfg,
)

# Per stage: positive IoU, box target stds, loss weight.
_POSITIVE_IOUS = (0.5, 0.6, 0.7)
_TARGET_STDS = (1 / 10, 1 / 20, 1 / 30)
_WEIGHTS = (1.0, 0.5, 0.25)


class CascadeMaskRCNN(TwoStageHead):
    """Cascade Mask R-CNN: three stages, each trained on the boxes of the stage before it at a higher IoU.

    Arguments are those of `TwoStageHead`. In `overrides`, `roi_head.bbox_head`, `roi_head.mask_head` and
    `train_cfg.rcnn` are lists: `roi_head.bbox_head.loss_bbox.type` sets all three stages,
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
                "bbox_head": [box_head(settings, std, class_agnostic=True) for std in _TARGET_STDS],
                "mask_head": [mask_head(settings) for _ in _WEIGHTS],
            },
            "train_cfg": train_cfg(
                settings, [assigner_cfg(iou, settings, low_quality=False) for iou in _POSITIVE_IOUS]
            ),
            "test_cfg": test_cfg(settings),
        }
