"""Sections of MMDetection's configuration that all two-stage heads share."""

from dataclasses import dataclass
from typing import Any

from distill.errors import unknown_name
from heads.parts.ranges import require_at_least, require_share

NMS_TYPES = ("nms", "soft_nms")  # those of mmcv that take boxes without angles


@dataclass(frozen=True)
class TwoStageSettings:
    """Settings that come from the recipe and the student.

    Args:
        classes: Number of classes, background not counted.
        strides: Stride of each level of the neck, in pixels, finest first. The coarsest serves the proposals only.
        channels: Channels of every level, and width of the proposal and mask heads.
        fc_channels: Width of the box head.
        anchor_scale: Side of an anchor, in strides of its level.
        roi_samples: Regions per image that train the second stage, a quarter of them positive.
        mask_convs: Convolutions of the mask head.
        score_threshold: Lowest score of an instance.
        max_detections: Most instances in one image.
        proposals: Regions per image that reach the second stage. Training ranks twice as many per level.

    Raises:
        UserError: A number is out of range.
    """

    classes: int
    strides: list[int]
    channels: int
    fc_channels: int
    anchor_scale: float
    roi_samples: int
    mask_convs: int
    score_threshold: float
    max_detections: int
    proposals: int

    def __post_init__(self) -> None:
        """Checks the ranges."""
        for key in ("fc_channels", "roi_samples", "max_detections", "proposals"):
            require_at_least(1, **{key: vars(self)[key]})
        require_at_least(0, mask_convs=self.mask_convs)
        require_share(score_threshold=self.score_threshold)


def rpn_head(settings: TwoStageSettings) -> dict[str, Any]:
    """Proposals: anchors of one scale and three shapes on every level."""
    return {
        "type": "RPNHead",
        "in_channels": settings.channels,
        "feat_channels": settings.channels,
        "anchor_generator": {
            "type": "AnchorGenerator",
            "scales": [settings.anchor_scale],
            "ratios": [0.5, 1.0, 2.0],
            "strides": settings.strides,
        },
        "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_stds": [1.0, 1.0, 1.0, 1.0]},
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True},
        "loss_bbox": {"type": "SmoothL1Loss"},
    }


def region_extractors(settings: TwoStageSettings) -> dict[str, Any]:
    """RoIAlign for boxes (7 x 7) and masks (14 x 14) from all levels but the coarsest."""

    def extractor(size: int) -> dict[str, Any]:
        return {
            "type": "SingleRoIExtractor",
            "roi_layer": {"type": "RoIAlign", "output_size": size, "sampling_ratio": 0},
            "out_channels": settings.channels,
            "featmap_strides": settings.strides[:-1],
            # A region of 28 cells goes to the next level, as in FPN: 56 px is half of that at stride 4.
            "finest_scale": 14 * settings.strides[0],
        }

    return {"bbox_roi_extractor": extractor(7), "mask_roi_extractor": extractor(14)}


def box_head(settings: TwoStageSettings, target_std: float, class_agnostic: bool) -> dict[str, Any]:
    """Two fully connected layers, then a class and a box.

    Args:
        settings: Of the detector.
        target_std: Standard deviation of the centre's offset, in box sides, by which targets are divided; that of the
            size is twice as large.
        class_agnostic: One box for all classes rather than one for each.
    """
    return {
        "type": "Shared2FCBBoxHead",
        "in_channels": settings.channels,
        "fc_out_channels": settings.fc_channels,
        "roi_feat_size": 7,
        "num_classes": settings.classes,
        "bbox_coder": {
            "type": "DeltaXYWHBBoxCoder",
            "target_stds": [target_std, target_std, 2 * target_std, 2 * target_std],
        },
        "reg_class_agnostic": class_agnostic,
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False},
        "loss_bbox": {"type": "SmoothL1Loss"},
    }


def mask_head(settings: TwoStageSettings) -> dict[str, Any]:
    """Convolutions, then a 28 x 28 mask for each class."""
    return {
        "type": "FCNMaskHead",
        "num_convs": settings.mask_convs,
        "in_channels": settings.channels,
        "conv_out_channels": settings.channels,
        "num_classes": settings.classes,
        "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True},
    }


def assigner_cfg(overlap: float, settings: TwoStageSettings, low_quality: bool) -> dict[str, Any]:
    """The assigner of a second stage: which regions it trains on, and their labels.

    Args:
        overlap: IoU with an object from which a region is positive.
        settings: Of the detector.
        low_quality: Whether the best region of an object is positive from that IoU on even if it fits another better.
    """
    sampled = _assigner_cfg(overlap, overlap, settings.roi_samples, 0.25, low_quality, add_ground_truth=True)
    return sampled | {"mask_size": 28}


def train_cfg(settings: TwoStageSettings, rcnn: Any) -> dict[str, Any]:
    """`train_cfg` with the second stage's part, one dictionary or one for each of its steps."""
    return {
        "rpn": _assigner_cfg(0.7, 0.3, 256, 0.5, low_quality=True, add_ground_truth=False) | {"allowed_border": -1},
        "rpn_proposal": _proposing(2 * settings.proposals, settings.proposals),
        "rcnn": rcnn,
    }


def test_cfg(settings: TwoStageSettings) -> dict[str, Any]:
    """`test_cfg`: NMS and thresholds."""
    return {
        "rpn": _proposing(settings.proposals, settings.proposals),
        "rcnn": {
            "score_thr": settings.score_threshold,
            "nms": {"type": "nms", "iou_threshold": 0.5},
            "max_per_img": settings.max_detections,
            "mask_thr_binary": 0.5,
        },
    }


def require_nms_types(sections: dict[str, Any], owner: str) -> None:
    """Checks the types of NMS, which MMDetection itself looks up only in the first validation.

    Args:
        sections: `train_cfg` and `test_cfg` among them.
        owner: The head, for messages.

    Raises:
        UserError: There is no such type.
    """
    for stage, part in (("train_cfg", "rpn_proposal"), ("test_cfg", "rpn"), ("test_cfg", "rcnn")):
        kind = sections[stage][part]["nms"].get("type", "nms")
        if kind not in NMS_TYPES:
            raise unknown_name(f"type in overrides of heads.{owner}, section {stage}.{part}.nms", kind, NMS_TYPES)


def _assigner_cfg(
    positive: float, negative: float, samples: int, fraction: float, low_quality: bool, add_ground_truth: bool
) -> dict[str, Any]:
    return {
        "assigner": {
            "type": "MaxIoUAssigner",
            "pos_iou_thr": positive,
            "neg_iou_thr": negative,
            "min_pos_iou": negative,
            "match_low_quality": low_quality,
            "ignore_iof_thr": 0.5,
        },
        "sampler": {
            "type": "RandomSampler",
            "num": samples,
            "pos_fraction": fraction,
            "add_gt_as_proposals": add_ground_truth,
        },
        "pos_weight": -1,
        "debug": False,
    }


def _proposing(ranked: int, kept: int) -> dict[str, Any]:
    nms = {"type": "nms", "iou_threshold": 0.7}
    return {"nms_pre": ranked, "max_per_img": kept, "nms": nms, "min_bbox_size": 0}
