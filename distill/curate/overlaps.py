"""Crops of one place that overlap in part, found by local features, which a hash of the whole image misses.

Points of one image are matched to points of the other, each the other's best; the matches that one shift, turn and zoom
explains are counted. Repeated patterns, such as the lines of a car park, match without any such agreement.

Axes: K points of an image, D = 128 numbers describing one.

Source: Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 60 (2004), whose ratio test is used.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_POINTS = 300
_LONGEST_SIDE = 800  # pixels; larger images are reduced
_RATIO = 0.8
_SMALLEST_AGREEMENT = 12  # matches
_REACH = 3.0  # pixels between a match and where the others put it
_LARGEST_ZOOM = 2.0


class Features(NamedTuple):
    """Points (K, 2) of an image and what surrounds them (K, D), of length 1."""

    points: NDArray[np.float32]
    descriptors: NDArray[np.float32]


def features_of(pixels: Tensor) -> Features:
    """The strongest points of an image (3, H, W) uint8."""
    grey = cv2.cvtColor(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()), cv2.COLOR_RGB2GRAY)
    zoom = _LONGEST_SIDE / max(grey.shape)
    if zoom < 1:
        grey = cv2.resize(grey, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    points, descriptors = cv2.SIFT_create(nfeatures=_POINTS).detectAndCompute(grey, None)  # type: ignore[attr-defined]
    if descriptors is None:
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    length = np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-6)
    return Features(np.array([point.pt for point in points], np.float32), descriptors / length)


def overlapping(first: Sequence[Features], second: Iterable[Features]) -> list[tuple[int, int, int]]:
    """Pairs across two sets that show ground in common: both indices and the points in common, most first.

    Matches each with each, a millisecond a pair. Crops with few distinct points are missed.
    """
    pairs = [
        (i, j, count)
        for j, two in enumerate(second)
        for i, one in enumerate(first)
        if (count := points_in_common(one, two))
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))


def points_in_common(one: Features, two: Features) -> int:
    """How many points both images show, by one similarity transform; 0 if they may be a coincidence."""
    if min(len(one.points), len(two.points)) < _SMALLEST_AGREEMENT:
        return 0
    likeness = two.descriptors @ one.descriptors.T
    best = likeness.argmax(axis=1)
    rows = np.arange(len(best))
    top = likeness[rows, best]
    mutual = likeness.argmax(axis=0)[best] == rows
    likeness[rows, best] = -1
    # Squared distances of vectors of length 1.
    good = mutual & ((2 - 2 * top) < _RATIO**2 * (2 - 2 * likeness.max(axis=1)))
    if good.sum() < _SMALLEST_AGREEMENT:
        return 0
    cv2.setRNGSeed(0)  # the consensus below is drawn at random
    transform, agreeing = cv2.estimateAffinePartial2D(
        two.points[good], one.points[best[good]], ransacReprojThreshold=_REACH
    )
    if transform is None:
        return 0
    zoom = float(np.hypot(transform[0, 0], transform[1, 0]))
    count = int(agreeing.sum())
    return count if count >= _SMALLEST_AGREEMENT and 1 / _LARGEST_ZOOM <= zoom <= _LARGEST_ZOOM else 0
