"""Instances from boxes and small masks, as two-stage heads compute them, in NumPy.

Axes: N instances, m cells along a side of a region's mask, H W pixels of an image.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from distill.exported.facts import ExportedFacts
from distill.exported.session import Outputs
from distill.patch import Patch
from distill.scene.detections import TileInstances

_Floats = NDArray[np.float32]


def instances_of_regions(
    outputs: Outputs, facts: ExportedFacts, shown: tuple[int, int], size: tuple[int, int]
) -> TileInstances:
    """The instances of an image that have a pixel.

    Args:
        outputs: Of a file of kind "regions".
        facts: Of the file.
        shown: Height and width of the image in the view.
        size: H and W.
    """
    return found_instances(outputs, shown, size, lambda cells, boxes: paste(cells, boxes, size, facts.mask_threshold))


def found_instances(
    outputs: Outputs,
    shown: tuple[int, int],
    size: tuple[int, int],
    masks: Callable[[_Floats, _Floats], list[Patch]],
) -> TileInstances:
    """The instances of an image that have a pixel, without what a file pads its outputs with.

    Args:
        outputs: With boxes, scores, labels, count and masks.
        shown: Height and width of the image in the view.
        size: H and W.
        masks: Of the image, from those of the file and boxes (N, 4) in pixels of the image.
    """
    count = int(outputs["count"])
    scale = np.array([shown[1] / size[1], shown[0] / size[0]] * 2, np.float32)
    boxes = (outputs["boxes"][:count] / scale).astype(np.float32)
    patches = masks(outputs["masks"][:count], boxes)
    kept = [number for number, patch in enumerate(patches) if patch.pixels.size]
    return TileInstances(
        boxes[kept], outputs["scores"][:count][kept], outputs["labels"][:count][kept], [patches[n] for n in kept]
    )


def paste(probabilities: _Floats, boxes: _Floats, size: tuple[int, int], threshold: float) -> list[Patch]:
    """Masks of regions as masks of the image, each in the smallest rectangle that holds it.

    Each is computed in its box and a pixel around it, as by `paste` of `heads.mmdet.compact_masks`.

    Args:
        probabilities: Of the cells (N, m, m).
        boxes: (N, 4), in pixels of the image.
        size: H and W.
        threshold: Lowest probability of a pixel of the mask.
    """
    lows = np.maximum(np.floor(boxes[:, :2]) - 1, 0).astype(int)
    highs = np.minimum(np.ceil(boxes[:, 2:]) + 1, (size[1], size[0])).astype(int)
    return [
        Patch(top, left, _sampled(cells, box, (top, left, bottom, right), threshold)).trimmed()
        for cells, box, (left, top), (right, bottom) in zip(
            probabilities, boxes, lows.tolist(), highs.tolist(), strict=True
        )
    ]


def _sampled(cells: _Floats, box: _Floats, frame: tuple[int, int, int, int], threshold: float) -> NDArray[np.uint8]:
    """Which pixels of a frame (top, left, bottom, right) belong to a region, by bilinear samples of its cells.

    Cells beyond the border are zero.
    """
    top, left, bottom, right = frame
    framed = np.pad(cells.astype(np.float32), 2)  # so that every sample has four neighbours
    low, upper, lower = _between(top, bottom, box[1], box[3], cells.shape[0])
    rows = framed[low] * lower[:, None] + framed[low + 1] * upper[:, None]
    low, upper, lower = _between(left, right, box[0], box[2], cells.shape[1])
    values = rows[:, low] * lower + rows[:, low + 1] * upper
    return (values >= threshold).astype(np.uint8)


def _between(
    first: int, end: int, low: np.float32, high: np.float32, cells: int
) -> tuple[NDArray[np.int64], _Floats, _Floats]:
    """For the centres of pixels: the cell before each, counted with two of padding, and the weights of the cell after
    it and of itself.
    """
    centres = np.arange(first, max(first, end), dtype=np.float32) + np.float32(0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        places = (centres - low) / (high - low) * 2 - 1
    # Of boxes without a side, as PyTorch has it: infinite places are the middle, undefined ones are outside.
    places = np.nan_to_num(places, nan=-4, posinf=0, neginf=0)
    exact = np.clip(((places + 1) * cells - 1) / 2, -2, cells).astype(np.float32)
    before = np.floor(exact)
    upper = exact - before
    return before.astype(np.int64) + 2, upper, 1 - upper
