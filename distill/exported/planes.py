"""Instances from planes of class probabilities, as `heads.DenseMasks` computes them, without PyTorch.

Axes: K classes, H W pixels of an image.
"""

import cv2
import numpy as np

from distill.exported.facts import ExportedFacts
from distill.exported.resize import resize_maps
from distill.exported.session import Outputs
from distill.patch import Patch
from distill.scene.detections import TileInstances


def instances_of_planes(
    outputs: Outputs, facts: ExportedFacts, shown: tuple[int, int], size: tuple[int, int]
) -> TileInstances:
    """Connected regions of every class, scored by their mean probability, best first.

    Args:
        outputs: Of a file of kind "planes".
        facts: Of the file.
        shown: Height and width of the image in the view.
        size: H and W.
    """
    probabilities = outputs["probabilities"][0, :, : shown[0], : shown[1]]
    patches, scores, labels = [], [], []
    for label, plane in enumerate(resize_maps(probabilities, size)):
        above = (plane > facts.mask_threshold).astype(np.uint8)
        count, regions, extents, _ = cv2.connectedComponentsWithStats(above, connectivity=4)
        for region in range(1, count):
            left, top, columns, rows, area = extents[region].tolist()
            if area >= facts.min_area:
                own = np.s_[top : top + rows, left : left + columns]
                inside = regions[own] == region
                patches.append(Patch(top, left, inside.astype(np.uint8)))
                scores.append(float(plane[own][inside].mean()))
                labels.append(label)
    order = sorted(range(len(scores)), key=lambda number: -scores[number])
    boxes = [_box(patches[number]) for number in order]
    return TileInstances(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([scores[number] for number in order], np.float32),
        np.array([labels[number] for number in order], np.int64),
        [patches[number] for number in order],
    )


def _box(patch: Patch) -> tuple[int, int, int, int]:
    rows, columns = patch.pixels.shape
    return patch.left, patch.top, patch.left + columns, patch.top + rows
