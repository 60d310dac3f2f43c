"""Instances from boxes and masks of the whole view, as `heads.RSPrompter` computes them, in NumPy.

Axes: N instances, h w cells of a mask, H W pixels of an image.
"""

import math

import numpy as np
from numpy.typing import NDArray

from distill.exported.facts import ExportedFacts
from distill.exported.regions import found_instances
from distill.exported.resize import resize_maps
from distill.exported.session import Outputs
from distill.patch import Patch
from distill.scene.detections import TileInstances


def instances_of_frames(
    outputs: Outputs, facts: ExportedFacts, shown: tuple[int, int], size: tuple[int, int]
) -> TileInstances:
    """The instances of an image that have a pixel.

    Args:
        outputs: Of a file of kind "frames".
        facts: Of the file.
        shown: Height and width of the image in the view.
        size: H and W.
    """
    level = _logit(facts.mask_threshold)

    def masks(logits: NDArray[np.float32], boxes: NDArray[np.float32]) -> list[Patch]:
        # One by one: a hundred masks of 1024 px are 400 MB.
        return [_mask(one[None], facts.mask_stride, shown, size, level) for one in logits]

    return found_instances(outputs, shown, size, masks)


def _mask(
    logits: NDArray[np.float32], stride: int, shown: tuple[int, int], size: tuple[int, int], level: float
) -> Patch:
    """The pixels of logits (1, h, w) that are `level` or more, as by `PromptMaskHead` of `heads.mmdet.registered`.

    Args:
        logits: (1, h, w), of the whole view.
        stride: Pixels of the view in a cell.
        shown: See above.
        size: H and W.
        level: Lowest logit of a pixel of the mask.
    """
    view = resize_maps(logits, (stride * logits.shape[1], stride * logits.shape[2]))
    own = resize_maps(view[:, : shown[0], : shown[1]], size)[0]
    return Patch(0, 0, (own >= level).astype(np.uint8)).trimmed()


def _logit(probability: float) -> float:
    """Where the sigmoid has this value."""
    if 0 < probability < 1:
        return math.log(probability / (1 - probability))
    return -math.inf if probability <= 0 else math.inf
