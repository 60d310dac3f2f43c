"""Mask R-CNN with the settings of RS4D."""

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


class MaskRCNN(TwoStageHead):
    """Mask R-CNN: regions refined and classified once. Arguments are those of `TwoStageHead`.

    Source: RS4D's Mask R-CNN, which is He et al., "Mask R-CNN", ICCV 2017, as MMDetection configures it, with smooth-L1
    box losses and low-quality matches in the second stage. Two deviations: regions marked as crowd are ignored, where
    the original trains them as background, and the RoI levels are relative to the finest stride, so that a student
    of stride 8 shares its regions between levels as one of stride 16 does.
    """

    detector = "MaskRCNN"

    def sections(self, settings: TwoStageSettings) -> dict[str, Any]:
        """See `TwoStageHead.sections`."""
        return {
            "rpn_head": rpn_head(settings),
            "roi_head": {
                "type": "StandardRoIHead",
                **region_extractors(settings),
                "bbox_head": box_head(settings, target_std=0.1, class_agnostic=False),
                "mask_head": mask_head(settings),
            },
            "train_cfg": train_cfg(settings, assigner_cfg(0.5, settings, low_quality=True)),
            "test_cfg": test_cfg(settings),
        }
