"""Targets as MMDetection's records.

Axes: N instances, H W pixels. Boxes are (x1, y1, x2, y2) in pixels.
"""

from typing import Any

import torch
from torch import Tensor

from distill.contracts import Target


def image_record(target: Target) -> Any:
    """Record of an image without ground truth; `image_id`, `size` and `original_size` of the target are read."""
    from mmdet.structures import DetDataSample

    (height, width), (original_height, original_width) = target.size, target.original_size
    return DetDataSample(
        metainfo={
            "img_id": target.image_id,
            "img_shape": target.size,
            "ori_shape": target.original_size,
            "scale_factor": (width / original_width, height / original_height),
        }
    )


def proposal_record(target: Target, padded: tuple[int, int]) -> Any:
    """Record that trains the proposals: boxes of a single class, "object".

    Args:
        target: Ground truth of the image.
        padded: (H, W) of the network's input.
    """
    from mmengine.structures import InstanceData

    record, learned = _annotated_record(target, padded)
    labels = torch.zeros_like(target.labels[learned])
    record.gt_instances = InstanceData(bboxes=target.boxes[learned], labels=labels)
    return record


def region_record(target: Target, padded: tuple[int, int]) -> Any:
    """Record that trains the second stage: boxes, classes and masks.

    Args:
        target: Ground truth of the image.
        padded: (H, W) of the network's input.
    """
    from mmengine.structures import InstanceData

    from heads.mmdet.masks_on_demand import MasksOnDemand

    record, learned = _annotated_record(target, padded)
    record.gt_instances = InstanceData(
        bboxes=target.boxes[learned],
        labels=target.labels[learned],
        masks=MasksOnDemand(target.masks, learned.nonzero().flatten()),
    )
    return record


def _annotated_record(target: Target, padded: tuple[int, int]) -> tuple[Any, Tensor]:
    """An image's record with the regions to ignore, and which instances (N,) are to be learned."""
    from mmengine.structures import InstanceData

    record = image_record(target)
    # Anchors over the padding are trained as background, as in RS4D: else they would give false positives at inference.
    record.set_metainfo({"pad_shape": padded})
    record.ignored_instances = InstanceData(bboxes=target.boxes[target.crowd])
    return record, ~target.crowd
