"""Compares the instances of an exported file with those of its run.

Axes: N instances.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distill.scene.detections import TileInstances

BOX = 0.05  # pixels
SCORE = 1e-4
MASK = 1e-3  # 1 - IoU; or a single pixel
_SAME = 0.5  # IoU from which two boxes may be of one object
_STRIP = 256  # instances whose overlaps are computed at once


@dataclass(frozen=True)
class InstanceDifference:
    """The largest differences between two sets of instances.

    Attributes:
        matched: Instances that both have.
        box: Largest difference of a coordinate, in pixels.
        score: Largest difference of a score.
        mask: Largest 1 - IoU of the masks, where more than one pixel differs.
        borderline: Instances that one of them lacks and that are at an edge: of the threshold of scores, or of the last
            kept.
        unmatched: Other instances that one of them lacks.
    """

    matched: int
    box: float
    score: float
    mask: float
    borderline: int
    unmatched: int

    @property
    def compared(self) -> bool:
        """Whether there was an instance to compare."""
        return self.matched > 0

    @property
    def row(self) -> dict[str, str]:
        """The row of a table."""
        return {
            "instances": str(self.matched),
            "of one alone": str(self.unmatched) + (f" + {self.borderline} at an edge" if self.borderline else ""),
            "boxes, px": f"{self.box:.1e}",
            "scores": f"{self.score:.1e}",
            "masks, 1 - IoU": f"{self.mask:.1e}",
        }

    @property
    def failed(self) -> str | None:
        """The first difference above its tolerance, in words; None if there is none."""
        if self.unmatched:
            return f"{self.unmatched} instances are found by one and not by the other"
        for output, value, allowed in (
            ("boxes", self.box, BOX),
            ("scores", self.score, SCORE),
            ("masks", self.mask, MASK),
        ):
            if not value <= allowed:  # not a number, too
                return f"{output} differ by {value:.3g}, allowed are {allowed:g}"
        return None


def compare_instances(
    expected: TileInstances, found: TileInstances, threshold: float, limit: int | None
) -> InstanceDifference:
    """Matches the instances of two models one to one, by class and overlap, and compares the pairs.

    Args:
        expected: Of the run.
        found: Of the file.
        threshold: Lowest score of an instance.
        limit: Most instances; None if there is no limit.
    """
    pairs = _pairs(expected, found)
    mine, others = [first for first, _ in pairs], [second for _, second in pairs]
    box = np.abs(expected.boxes[mine] - found.boxes[others])
    score = np.abs(expected.scores[mine] - found.scores[others])
    mask = [_mask_difference(expected, first, found, second) for first, second in pairs]
    borderline = unmatched = 0
    for whose, taken in ((expected, {mine for mine, _ in pairs}), (found, {other for _, other in pairs})):
        edges = [threshold] + ([float(whose.scores.min())] if limit is not None and len(whose) >= limit else [])
        for index in set(range(len(whose))) - taken:
            at_edge = any(abs(float(whose.scores[index]) - edge) <= SCORE for edge in edges)
            borderline, unmatched = borderline + at_edge, unmatched + (not at_edge)
    return InstanceDifference(len(pairs), _largest(box), _largest(score), _largest(mask), borderline, unmatched)


def _largest(values: ArrayLike) -> float:
    """Not a number if one of them is none; 0 if there are none."""
    return float(np.max(values, initial=0))


def _pairs(expected: TileInstances, found: TileInstances) -> list[tuple[int, int]]:
    """The pairs of one class with the largest overlaps, those of nearly equal boxes by their scores."""
    mine, others, overlaps = _candidates(expected, found)
    # Doubles have overlaps near 1 with each other: of those the scores tell which is which.
    distance = np.abs(expected.scores[mine] - found.scores[others])
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for index in np.lexsort((distance, -np.round(overlaps, 3))):
        first, second = int(mine[index]), int(others[index])
        if first not in partner and second not in taken:
            partner[first] = second
            taken.add(second)
    return list(partner.items())


def _candidates(
    expected: TileInstances, found: TileInstances
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Indices and overlaps of all that may be pairs.

    Strip by strip from left to right: masks of single pixels are tens of thousands, whose overlaps with each other no
    memory holds.
    """
    order = np.argsort(expected.boxes[:, 0])
    mine, others, shares = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for start in range(0, len(order), _STRIP):
        rows = order[start : start + _STRIP]
        boxes = expected.boxes[rows]
        beside = (found.boxes[:, 0] < boxes[:, 2].max()) & (found.boxes[:, 2] > boxes[:, 0].min())
        near = np.flatnonzero(beside)
        overlaps = _overlaps(boxes, found.boxes[near])
        same = expected.labels[rows][:, None] == found.labels[near][None]
        first, second = np.nonzero(same & (overlaps >= _SAME))
        mine.append(rows[first])
        others.append(near[second])
        shares.append(overlaps[first, second])
    return np.concatenate(mine), np.concatenate(others), np.concatenate(shares)


def _overlaps(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """IoU of boxes (N, 4) and (M, 4)."""
    a, b = first[:, None].astype(np.float64), second[None].astype(np.float64)
    inner = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(-1)
    areas = [np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(-1) for boxes in (a, b)]
    return np.asarray(inner / np.maximum(areas[0] + areas[1] - inner, 1e-12))


def _mask_difference(expected: TileInstances, mine: int, found: TileInstances, other: int) -> float:
    """1 - IoU of two masks; 0 where a single pixel differs, which is all that rounding can do to a small object."""
    one, two = expected.masks[mine], found.masks[other]
    top, left = min(one.top, two.top), min(one.left, two.left)
    bottom = max(one.top + one.pixels.shape[0], two.top + two.pixels.shape[0])
    right = max(one.left + one.pixels.shape[1], two.left + two.pixels.shape[1])
    canvases = np.zeros((2, bottom - top, right - left), bool)
    for canvas, patch in zip(canvases, (one, two), strict=True):
        height, width = patch.pixels.shape
        canvas[patch.top - top :, patch.left - left :][:height, :width] = patch.pixels
    differ = int((canvases[0] != canvases[1]).sum())
    return 0.0 if differ <= 1 else differ / int((canvases[0] | canvases[1]).sum())
