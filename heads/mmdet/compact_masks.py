"""Pastes the masks of regions into the image as `InstanceMasks`.

Axes: N instances, K classes, h w cells of a region's mask, H W pixels of the image file.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.instance_masks import InstanceMasks
from heads.mmdet.float32 import steps


def answer_with_compact_masks(mask_head: nn.Module) -> None:
    """Lets the mask heads of a second stage predict `InstanceMasks` where their class pastes as MMDetection does.

    Args:
        mask_head: One head, or one for each step of a cascade.
    """
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead

    for part in steps(mask_head):
        if isinstance(part, FCNMaskHead):
            own = type(part)._predict_by_feat_single
            if own is FCNMaskHead._predict_by_feat_single:
                part._predict_by_feat_single = partial(_masks_of_image, part.class_agnostic)


def paste(probabilities: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float) -> InstanceMasks:
    """Masks of regions as masks of the image.

    Each is computed in its box and a pixel around it, as MMDetection does on a CPU, and has the same bits. On a GPU
    MMDetection computes every pixel of the image, which differs only at a threshold below 0.5.

    Args:
        probabilities: Of the cells (N, h, w).
        boxes: (N, 4), in pixels of the image.
        size: H and W.
        threshold: Lowest probability of a pixel of the mask.

    Source: `_do_paste_mask` of MMDetection 3.3, `mmdet/models/roi_heads/mask_heads/fcn_mask_head.py`.
    """
    limits = boxes.new_tensor([size[1], size[0]])
    lows, highs = (boxes[:, :2].floor() - 1).clamp(min=0), (boxes[:, 2:].ceil() + 1).minimum(limits)
    frames, parts = [], [boxes.new_zeros(0, dtype=torch.bool)]
    # The rectangles are read at once: the device is waited for a single time.
    for cells, box, rectangle in zip(probabilities, boxes, torch.cat([lows, highs], dim=1).tolist(), strict=True):
        left, top, right, bottom = (int(number) for number in rectangle)
        x = _places(left, max(left, right), box[0], box[2])
        y = _places(top, max(top, bottom), box[1], box[3])
        frames.append((top, left, len(y), len(x)))
        if len(x) and len(y):
            grid = torch.stack([x[None].expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=2)
            pasted = F.grid_sample(cells[None, None].float(), grid[None], align_corners=False)
            parts.append((pasted >= threshold).flatten())
    return InstanceMasks(torch.cat(parts), frames, size)


def _places(first: int, end: int, low: Tensor, high: Tensor) -> Tensor:
    """Centres of the pixels from `first` to before `end`, where -1 to 1 is the side `low` to `high` of a box."""
    centres = torch.arange(first, end, device=low.device, dtype=torch.float32) + 0.5
    places = (centres - low) / (high - low) * 2 - 1
    return torch.where(places.isinf(), 0, places)


def _masks_of_image(
    class_agnostic: bool,
    mask_preds: Any,
    bboxes: Tensor,
    labels: Tensor,
    img_meta: dict[str, Any],
    rcnn_test_cfg: Any,
    rescale: bool = False,
    activate_map: bool = False,
) -> InstanceMasks:
    """In place of `FCNMaskHead._predict_by_feat_single`, for masks and boxes at the size of the file (`rescale`).

    As there, the boxes are moved to that frame in place.

    Args:
        class_agnostic: Whether there is one mask for all classes.
        mask_preds: (N, K, h, w): logits, or with `activate_map` probabilities.
        bboxes: (N, 4), in pixels of the network's input.
        labels: (N,).
        img_meta: Sizes of the image.
        rcnn_test_cfg: `mask_thr_binary`.
        rescale: Always true here.
        activate_map: Whether the masks of several steps were averaged.
    """
    assert rescale
    probabilities = mask_preds if activate_map else mask_preds.sigmoid()
    bboxes /= bboxes.new_tensor(img_meta["scale_factor"]).repeat(2)
    chosen = torch.zeros_like(labels) if class_agnostic else labels
    cells = probabilities[torch.arange(len(labels), device=labels.device), chosen]
    return paste(cells, bboxes, tuple(img_meta["ori_shape"][:2]), rcnn_test_cfg.mask_thr_binary)
