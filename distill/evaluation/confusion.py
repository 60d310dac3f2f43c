"""The confusion matrix of a detector.

Axes: K classes in label order; row or column K is the background.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.masks import mask_iou

IOU = 0.5
# A matrix needs a set of instances where AP needs a ranking. Source: the default of MMDetection's confusion matrix.
SCORE = 0.3


def count_confusions(
    objects: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]], labels: dict[int, int]
) -> NDArray[np.int64]:
    """Confusions (K + 1, K + 1) in one image: rows are true classes, columns predicted ones.

    Instances of at least score `SCORE`, best first, each take the free object that their mask overlaps most, whatever
    its class, if by `IOU` or more. An object that is not taken is a false negative (last column), an instance that
    takes nothing a false positive (last row); but an instance within a region to ignore (crowd) is neither.

    Args:
        objects: Annotations with RLE segmentations.
        found: Results with RLE segmentations.
        labels: Label of every category id.
    """
    background = len(labels)
    counts = np.zeros((background + 1, background + 1), np.int64)
    found = sorted((f for f in found if f["score"] >= SCORE), key=lambda f: -f["score"])
    crowd = np.array([bool(o["iscrowd"]) for o in objects], bool)
    free = ~crowd
    overlaps = mask_iou([f["segmentation"] for f in found], [o["segmentation"] for o in objects], crowd)
    for instance, overlap in zip(found, overlaps, strict=True):
        predicted = labels[instance["category_id"]]
        taken = int(np.argmax(np.where(free, overlap, -1))) if free.any() else -1
        if taken >= 0 and overlap[taken] >= IOU:
            free[taken] = False
            counts[labels[objects[taken]["category_id"]], predicted] += 1
        elif not (overlap[crowd] >= IOU).any():
            counts[background, predicted] += 1
    for missed in np.flatnonzero(free).tolist():
        counts[labels[objects[missed]["category_id"]], background] += 1
    return counts
