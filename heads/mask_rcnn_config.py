"""MMDetection's configuration of Mask R-CNN, with the settings of RS4D."""

from typing import Any

from distill.errors import unknown_name


def mask_rcnn_config(
    classes: int,
    strides: list[int],
    channels: int = 256,
    fc_channels: int = 1024,
    anchor_scale: int = 8,
    roi_samples: int = 512,
    mask_convs: int = 4,
    score_threshold: float = 0.05,
    max_detections: int = 100,
    proposals: int = 1000,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Builds `rpn_head`, `roi_head`, `train_cfg` and `test_cfg` for MMDetection's registry.

    Source: RS4D's Mask R-CNN, which is He et al., "Mask R-CNN", ICCV 2017, as MMDetection configures it, with smooth-L1
    box losses and low-quality matches in the second stage. Two deviations: regions marked as crowd are ignored, where
    the original trains them as background, and the RoI levels are relative to the finest stride, so that a student
    of stride 8 shares its regions between levels as one of stride 16 does.

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
        overrides: Merged into the result, nested; `_delete_: true` in a section replaces it.

    Raises:
        UserError: An override names a section that does not exist.
    """
    from mmengine.config import Config

    config = Config(
        {
            "rpn_head": _rpn_head(strides, channels, anchor_scale),
            "roi_head": _roi_head(classes, strides[:-1], channels, fc_channels, mask_convs),
            "train_cfg": _train_cfg(roi_samples, proposals),
            "test_cfg": _test_cfg(score_threshold, max_detections, proposals),
        }
    )
    for key in overrides or {}:
        if key.split(".")[0] not in config:
            raise unknown_name("section in heads.MaskRCNN overrides", key, config.keys())
    config.merge_from_dict(overrides or {})
    return dict(config)


def _rpn_head(strides: list[int], channels: int, anchor_scale: int) -> dict[str, Any]:
    return {
        "type": "RPNHead",
        "in_channels": channels,
        "feat_channels": channels,
        "anchor_generator": {
            "type": "AnchorGenerator",
            "scales": [anchor_scale],
            "ratios": [0.5, 1.0, 2.0],
            "strides": strides,
        },
        "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_stds": [1.0, 1.0, 1.0, 1.0]},
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True},
        "loss_bbox": {"type": "SmoothL1Loss"},
    }


def _roi_head(classes: int, strides: list[int], channels: int, fc_channels: int, mask_convs: int) -> dict[str, Any]:
    def extractor(size: int) -> dict[str, Any]:
        return {
            "type": "SingleRoIExtractor",
            "roi_layer": {"type": "RoIAlign", "output_size": size, "sampling_ratio": 0},
            "out_channels": channels,
            "featmap_strides": strides,
            # A region of 28 cells goes to the next level, as in FPN: 56 px is half of that at stride 4.
            "finest_scale": 14 * strides[0],
        }

    return {
        "type": "StandardRoIHead",
        "bbox_roi_extractor": extractor(7),
        "bbox_head": {
            "type": "Shared2FCBBoxHead",
            "in_channels": channels,
            "fc_out_channels": fc_channels,
            "roi_feat_size": 7,
            "num_classes": classes,
            "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_stds": [0.1, 0.1, 0.2, 0.2]},
            "reg_class_agnostic": False,
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False},
            "loss_bbox": {"type": "SmoothL1Loss"},
        },
        "mask_roi_extractor": extractor(14),
        "mask_head": {
            "type": "FCNMaskHead",
            "num_convs": mask_convs,
            "in_channels": channels,
            "conv_out_channels": channels,
            "num_classes": classes,
            "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True},
        },
    }


def _matching(
    positive: float, negative: float, samples: int, positive_fraction: float, add_ground_truth: bool
) -> dict[str, Any]:
    return {
        "assigner": {
            "type": "MaxIoUAssigner",
            "pos_iou_thr": positive,
            "neg_iou_thr": negative,
            "min_pos_iou": negative,
            "match_low_quality": True,
            "ignore_iof_thr": 0.5,
        },
        "sampler": {
            "type": "RandomSampler",
            "num": samples,
            "pos_fraction": positive_fraction,
            "add_gt_as_proposals": add_ground_truth,
        },
        "pos_weight": -1,
    }


def _proposing(ranked: int, kept: int) -> dict[str, Any]:
    suppression = {"type": "nms", "iou_threshold": 0.7}
    return {"nms_pre": ranked, "max_per_img": kept, "nms": suppression, "min_bbox_size": 0}


def _train_cfg(roi_samples: int, proposals: int) -> dict[str, Any]:
    return {
        "rpn": _matching(0.7, 0.3, 256, 0.5, add_ground_truth=False) | {"allowed_border": -1},
        "rpn_proposal": _proposing(2 * proposals, proposals),
        "rcnn": _matching(0.5, 0.5, roi_samples, 0.25, add_ground_truth=True) | {"mask_size": 28},
    }


def _test_cfg(score_threshold: float, max_detections: int, proposals: int) -> dict[str, Any]:
    return {
        "rpn": _proposing(proposals, proposals),
        "rcnn": {
            "score_thr": score_threshold,
            "nms": {"type": "nms", "iou_threshold": 0.5},
            "max_per_img": max_detections,
            "mask_thr_binary": 0.5,
        },
    }
