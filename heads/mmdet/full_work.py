"""Makes a two-stage head do all of its work, for measurements of its cost.

How many regions a head works on depends on its weights and on the image, anything from none to all. Here every pass
goes on with the same boxes: as many proposals as the head keeps, of which three times as many as it may find instances
have a class, so that non-maximum suppression has something to choose from.

Axes: N regions, K classes.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from distill.replaced import replaced
from heads.mmdet.float32 import steps

_SIDES = (1 / 64, 1 / 4)  # of boxes, as fractions of the image: 16 to 256 px of 1024
_CANDIDATES = 3  # regions with a class for each instance
_LOGIT = 10.0  # of the class of a region


@contextmanager
def full_work(rpn_head: Any, roi_head: Any) -> Iterator[None]:
    """Makes the stages find as many instances as they can inside the block.

    Args:
        rpn_head: MMDetection's proposal head.
        roi_head: Its second stage.
    """

    def propose(call: Any, levels: Any, records: Any, *args: Any, **kwargs: Any) -> list[Any]:
        call(levels, records, *args, **kwargs)
        return [_proposals(rpn_head.test_cfg.max_per_img, record.metainfo["img_shape"]) for record in records]

    def classify(box_head: nn.Module, _: Any, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Forward hook: of N regions the first are of a class, the others background, (N, K + 1)."""
        scores, boxes = output
        numbers = torch.arange(len(scores), device=scores.device)
        background = scores.shape[1] - 1
        candidates = _CANDIDATES * roi_head.test_cfg.max_per_img
        classes = torch.where(numbers < candidates, numbers % background, background)
        return torch.zeros_like(scores).scatter(1, classes[:, None], _LOGIT), boxes

    hooks = [head.register_forward_hook(classify) for head in steps(roi_head.bbox_head)]
    try:
        with replaced(rpn_head.predict, propose):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _proposals(count: int, shape: tuple[int, ...]) -> Any:
    """Always the same boxes."""
    from mmengine.structures import InstanceData

    drawn = torch.rand(count, 4, generator=torch.Generator().manual_seed(0))
    low, high = (math.log(max(shape[:2]) * side) for side in _SIDES)
    sides = (low + (high - low) * drawn[:, :2]).exp()
    corners = drawn[:, 2:] * (torch.tensor([shape[1], shape[0]]) - sides).clamp(min=0)
    return InstanceData(bboxes=torch.cat([corners, corners + sides], dim=1), scores=torch.ones(count))
