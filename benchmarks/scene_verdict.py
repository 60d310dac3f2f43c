"""How the merged objects of a scene differ from its true ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.patch import Patch

LEAST = 0.3  # IoU with the truth, below which an object is lost: an object of 8 px, off by 1 px all around, has 0.56
MOST = 0.5  # share of an object that another one covers: more is the same object


@dataclass(frozen=True)
class Verdict:
    """What went wrong.

    Attributes:
        doubles: Results for an object beyond its best one that lie on it.
        splits: Results for an object beyond its best one that lie beside it.
        joins: Results that hold more than half of an object beside their own, of which none lies inside the other.
        lost: Objects without a result, or with a poor one.
        excess: Results beyond the number of objects; negative where there are too few.
        iou: Mean IoU of the objects' masks with those of their best results; 0 for objects without one.
    """

    doubles: int
    splits: int
    joins: int
    lost: int
    excess: int
    iou: float


def judge(objects: Sequence[Patch], results: Sequence[Patch]) -> Verdict:
    """Compare results with the truth, one-to-one by falling IoU; a result beyond belongs to what it is most like."""
    areas = np.array([int(patch.pixels.sum()) for patch in objects])
    truth = frames(objects)
    inside = nested(objects, truth, areas)
    near = [touching(truth, result) for result in results]
    common = [np.array([shared(objects[a], one) for a in found]) for one, found in zip(results, near, strict=True)]
    overlaps = [
        part / (areas[found] + result.pixels.sum() - part)
        for result, found, part in zip(results, near, common, strict=True)
    ]
    ranked = sorted(
        (-overlap, number, int(index))
        for number, (found, row) in enumerate(zip(near, overlaps, strict=True))
        for index, overlap in zip(found, row, strict=True)
        if overlap
    )
    best: dict[int, tuple[int, float]] = {}  # the result of each object, and their IoU
    owner: dict[int, int] = {}  # the object of each result
    for overlap, number, index in ranked:  # one-to-one
        if number not in owner and index not in best:
            best[index], owner[number] = (number, -overlap), index
    rest = [number for number in range(len(results)) if number not in owner]
    for _, number, index in ranked:
        owner.setdefault(number, index)
    joins = 0
    for number, index in owner.items():
        held = {int(a) for a, part in zip(near[number], common[number], strict=True) if part > MOST * areas[a]}
        joins += any((a, index) not in inside and (index, a) not in inside for a in held - {index})
    doubles = 0
    for number in rest:
        first = results[best[owner[number]][0]] if owner.get(number) in best else None
        doubles += first is None or shared(first, results[number]) > MOST * results[number].pixels.sum()
    found_well = np.array([best[index][1] if index in best else 0.0 for index in range(len(objects))])
    return Verdict(
        doubles=int(doubles),
        splits=len(rest) - int(doubles),
        joins=joins,
        lost=int((found_well < LEAST).sum()),
        excess=len(results) - len(objects),
        iou=float(found_well.mean()),
    )


def nested(objects: Sequence[Patch], bounds: NDArray[np.int64], areas: NDArray[np.int64]) -> set[tuple[int, int]]:
    """Pairs (a, b) of objects of which a lies inside b."""
    pairs = set()
    for a, patch in enumerate(objects):
        for b in touching(bounds, patch):
            if a != b and areas[a] < areas[b] and shared(patch, objects[b]) == areas[a]:
                pairs.add((a, int(b)))
    return pairs


def frames(patches: Sequence[Patch]) -> NDArray[np.int64]:
    """Top, left, bottom and right (N, 4)."""
    rows = [(p.top, p.left, p.top + p.pixels.shape[0], p.left + p.pixels.shape[1]) for p in patches]
    return np.array(rows, np.int64).reshape(-1, 4)


def touching(bounds: NDArray[np.int64], patch: Patch) -> NDArray[np.int64]:
    """Which rectangles meet that of a patch."""
    height, width = patch.pixels.shape
    over = (bounds[:, 0] < patch.top + height) & (patch.top < bounds[:, 2])
    return np.flatnonzero(over & (bounds[:, 1] < patch.left + width) & (patch.left < bounds[:, 3]))


def shared(one: Patch, other: Patch) -> int:
    """Pixels that two masks have in common."""
    top, left = max(one.top, other.top), max(one.left, other.left)
    bottom = min(one.top + one.pixels.shape[0], other.top + other.pixels.shape[0])
    right = min(one.left + one.pixels.shape[1], other.left + other.pixels.shape[1])
    if top >= bottom or left >= right:
        return 0
    views = [p.pixels[top - p.top : bottom - p.top, left - p.left : right - p.left] for p in (one, other)]
    return int(np.count_nonzero(views[0].astype(bool) & views[1].astype(bool)))
