"""Detections of one tile in pixels of the scene: their place, the borders that cut them, and the tile's core.

Every pixel of a scene has one owner: the tile whose border is farthest from it. The pixels that a tile owns are its
core. Neighbouring cores meet in the middle of the overlap.

Axes: N objects. Rectangles are (top, left, bottom, right) in pixels, exclusive at the far edge.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from distill.data.tiling import Tile, TilePlan
from distill.patch import Patch
from distill.scene.detections import Detection, TileInstances

Rectangle = tuple[int, int, int, int]


@dataclass(eq=False)
class Sighting:
    """A detection as one tile saw it.

    Attributes:
        tile: The tile.
        number: Its place among the detections of the tile, which does not depend on the order they came in.
        detection: In pixels of the scene.
        frame: The rectangle that the mask fills.
        area: Pixels of the mask.
        owned: Those of them that lie in the core of the tile.
        clearance: Pixels between the mask and the nearest interior border of the tile.
    """

    tile: Tile
    number: int
    detection: Detection
    frame: Rectangle
    area: int
    owned: int
    clearance: int

    @property
    def key(self) -> tuple[int, int, int]:
        """A total order of all detections of a scene."""
        return self.tile.row, self.tile.column, self.number

    @property
    def cut(self) -> bool:
        """Whether a border of the tile truncates it."""
        return any(self.detection.truncated)

    def truncate(self, sides: Sequence[int]) -> None:
        """Marks as truncated on more sides: top, left, bottom and right, by number."""
        if sides:
            top, left, bottom, right = (side in sides or cut for side, cut in enumerate(self.detection.truncated))
            self.detection = dataclasses.replace(self.detection, truncated=(top, left, bottom, right))

    def within(self, rectangle: Rectangle) -> NDArray[np.bool_]:
        """The pixels of the mask inside a rectangle, which must lie inside the frame."""
        mask = self.detection.mask
        top, left, bottom, right = rectangle
        return mask.pixels[top - mask.top : bottom - mask.top, left - mask.left : right - mask.left].view(bool)

    def count(self, rectangle: Rectangle) -> int:
        """How many pixels of the mask lie inside a rectangle."""
        common = meet(self.frame, rectangle)
        return int(np.count_nonzero(self.within(common))) if common else 0

    def shared(self, other: "Sighting", rectangle: Rectangle) -> int:
        """The number of pixels of a rectangle that are in both masks."""
        common = meet(self.frame, other.frame)
        common = common and meet(common, rectangle)
        return int(np.count_nonzero(self.within(common) & other.within(common))) if common else 0


def meet(first: Rectangle, second: Rectangle) -> Rectangle | None:
    """The intersection of two rectangles; None if it is empty."""
    top, left = max(first[0], second[0]), max(first[1], second[1])
    bottom, right = min(first[2], second[2]), min(first[3], second[3])
    return (top, left, bottom, right) if top < bottom and left < right else None


def around(first: Rectangle, second: Rectangle) -> Rectangle:
    """The smallest rectangle that holds two rectangles."""
    return min(first[0], second[0]), min(first[1], second[1]), max(first[2], second[2]), max(first[3], second[3])


def frame_of(tile: Tile) -> Rectangle:
    """The rectangle of a tile."""
    return tile.top, tile.left, tile.top + tile.height, tile.left + tile.width


class Lifting:
    """Moves detections from tiles to the scene.

    Args:
        plan: How the scene is cut.
        border: Pixels from an interior border of a tile, up to which a detection counts as truncated.
    """

    def __init__(self, plan: TilePlan, border: int) -> None:
        self.plan = plan
        self.border = border

    def sightings(self, tile: Tile, found: TileInstances) -> list[Sighting]:
        """The detections of a tile, best first; those without a pixel are left out."""
        order = sorted(range(len(found)), key=lambda index: _rank(found, index))
        lifted = [self._lift(tile, found, index) for index in order if found.masks[index].pixels.any()]
        for number, sighting in enumerate(lifted):
            sighting.number = number
        return lifted

    def core(self, tile: Tile) -> Rectangle:
        """The pixels that a tile owns."""
        (top, bottom), (left, right) = self._row_cores[tile.row], self._column_cores[tile.column]
        return top, left, bottom, right

    @cached_property
    def _row_cores(self) -> list[tuple[int, int]]:
        return _cores(self.plan.tops, min(self.plan.tile, self.plan.height), self.plan.height)

    @cached_property
    def _column_cores(self) -> list[tuple[int, int]]:
        return _cores(self.plan.lefts, min(self.plan.tile, self.plan.width), self.plan.width)

    def _lift(self, tile: Tile, found: TileInstances, index: int) -> Sighting:
        patch = found.masks[index]
        mask = Patch(
            int(patch.top) + tile.top, int(patch.left) + tile.left, np.ascontiguousarray(patch.pixels, np.uint8)
        )
        x1, y1, x2, y2 = (float(number) for number in found.boxes[index])
        box = (x1 + tile.left, y1 + tile.top, x2 + tile.left, y2 + tile.top)
        frame = (mask.top, mask.left, mask.top + mask.pixels.shape[0], mask.left + mask.pixels.shape[1])
        bounds = frame_of(tile)
        interior = (bounds[0] > 0, bounds[1] > 0, bounds[2] < self.plan.height, bounds[3] < self.plan.width)
        of_mask = [abs(border - side) for border, side in zip(bounds, frame, strict=True)]
        of_box = [box[1] - bounds[0], box[0] - bounds[1], bounds[2] - box[3], bounds[3] - box[2]]
        cut = [
            inside and min(near, far) <= self.border
            for inside, near, far in zip(interior, of_mask, of_box, strict=True)
        ]
        farthest = self.plan.height + self.plan.width
        clearance = min((near for inside, near in zip(interior, of_mask, strict=True) if inside), default=farthest)
        detection = Detection(
            tile=(tile.row, tile.column),
            box=box,
            score=float(found.scores[index]),
            label=int(found.labels[index]),
            mask=mask,
            truncated=(cut[0], cut[1], cut[2], cut[3]),
        )
        sighting = Sighting(tile, 0, detection, frame, int(np.count_nonzero(mask.pixels)), 0, clearance)
        sighting.owned = sighting.count(self.core(tile))
        return sighting


def _rank(found: TileInstances, index: int) -> tuple[object, ...]:
    """A total order of the detections of a tile: the best first; ties by class and by what they look like."""
    patch = found.masks[index]
    box = tuple(found.boxes[index].tolist())
    label = int(found.labels[index])
    return -float(found.scores[index]), label, box, patch.top, patch.left, patch.pixels.shape, patch.pixels.tobytes()


def _cores(starts: tuple[int, ...], tile: int, length: int) -> list[tuple[int, int]]:
    """Where the core of each tile along a side begins and ends."""
    meeting = [(before + tile + after) // 2 for before, after in itertools.pairwise(starts)]
    return list(zip([0, *meeting], [*meeting, length], strict=True))
