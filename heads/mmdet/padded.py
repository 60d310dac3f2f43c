"""Two operators with results of fixed length: `distill::padded_top_k` and `distill::padded_nms`.

A ranking of N scores and non-maximum suppression return as many values as there are, which an exported graph with
dynamic sizes cannot hold. These pad, and say how many values count. Of equal scores the lower index comes first; in
MMDetection their order is that of PyTorch's sort, which is arbitrary on some processors. `heads.mmdet.onnx` has
their translations.

Axes: N candidates, K results. Boxes are (x1, y1, x2, y2) in pixels.
"""

import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F


@torch.library.custom_op("distill::padded_top_k", mutates_args=())
def padded_top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The K best scores, best first.

    Args:
        scores: (N,), of any N.
        k: K.

    Returns:
        The scores (K,), -inf where there are fewer, and their indices (K,), there 0.
    """
    ranked, order = scores.sort(descending=True, stable=True)
    missing = max(0, k - len(scores))
    return F.pad(ranked[:k], (0, missing), value=-torch.inf), F.pad(order[:k], (0, missing))


@padded_top_k.register_fake
def _(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return scores.new_empty(k), scores.new_empty(k, dtype=torch.int64)


@torch.library.custom_op("distill::padded_nms", mutates_args=())
def padded_nms(
    boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float, score_threshold: float, limit: int
) -> tuple[Tensor, Tensor]:
    """Greedy non-maximum suppression within each class.

    Args:
        boxes: (N, 4), no coordinate below zero.
        scores: (N,).
        classes: (N,) int64.
        iou_threshold: A box is dropped where it overlaps a better one of its class by more than this.
        score_threshold: Boxes of this score or a lower one do not take part.
        limit: K.

    Returns:
        Indices (K,) of the boxes kept, best first, and how many of them count, (); the others are 0.
    """
    kept = (scores > score_threshold).nonzero().flatten()
    boxes, scores, classes = boxes[kept], scores[kept], classes[kept]
    if len(kept):
        # Moved apart by class as `mmcv.ops.batched_nms` does, with the same rounding.
        boxes = boxes + (classes.to(boxes) * (boxes.max() + 1)).unsqueeze(1)
    found = kept[torchvision.ops.nms(boxes, scores, iou_threshold)][:limit]
    return F.pad(found, (0, limit - len(found))), found.new_tensor(len(found))


@padded_nms.register_fake
def _(
    boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float, score_threshold: float, limit: int
) -> tuple[Tensor, Tensor]:
    return boxes.new_empty(limit, dtype=torch.int64), boxes.new_empty((), dtype=torch.int64)
