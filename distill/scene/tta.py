"""Test-time augmentation: predicts each tile in eight orientations and joins the results.

Axes: V orientations, N instances, K classes, h w pixels of a tile.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.patch import Patch
from distill.scene.detections import ClassModel, InstanceModel, Pixels, TileInstances

IOU = 0.5  # from which on masks of two orientations are one object


class Orientation(NamedTuple):
    """A tile is mirrored from left to right, then turned by quarters against the clock."""

    mirror: bool
    turns: int

    def apply(self, tile: Pixels) -> Pixels:
        """The tile (..., h, w) in this orientation."""
        mirrored = tile[..., ::-1] if self.mirror else tile
        return np.ascontiguousarray(np.rot90(mirrored, self.turns, axes=(-2, -1)))

    def undo(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values (..., h, w) of the oriented tile, in pixels of the tile."""
        turned = np.rot90(values, -self.turns, axes=(-2, -1))
        return turned[..., ::-1] if self.mirror else turned

    def undo_instance(
        self, box: NDArray[np.float64], patch: Patch, size: tuple[int, int]
    ) -> tuple[NDArray[np.float64], Patch]:
        """A box (4,) and a mask of the oriented tile, in pixels of the tile of this `size` (h, w)."""
        height, width = size if self.turns % 2 == 0 else size[::-1]
        top, left, pixels = patch
        x1, y1, x2, y2 = box
        for _ in range(self.turns):
            x1, y1, x2, y2 = height - y2, x1, height - y1, x2
            top, left, pixels = left, height - top - len(pixels), np.rot90(pixels, -1)
            height, width = width, height
        if self.mirror:
            x1, x2 = width - x2, width - x1
            left, pixels = width - left - pixels.shape[1], pixels[:, ::-1]
        return np.array([x1, y1, x2, y2]), Patch(top, left, np.ascontiguousarray(pixels))


ORIENTATIONS = [Orientation(mirror, turns) for mirror, turns in product((False, True), range(4))]


class InstancesInAllOrientations:
    """An `InstanceModel` whose instances are those that a model finds in most orientations.

    Instances of different orientations and of one class are one object where their masks overlap by `IOU` or more. The
    best instance that belongs to none yet takes, of each other orientation, the free one that overlaps it most. The
    object's mask is what half of its instances cover or more, its box their mean, and its score the sum of theirs over
    eight: what is found in one orientation alone keeps an eighth of its score.

    Args:
        model: What finds instances in tiles.
    """

    def __init__(self, model: InstanceModel) -> None:
        self.model = model
        self.class_names = model.class_names

    def tile_instances(self, tiles: Sequence[Pixels]) -> list[TileInstances]:
        """Instances of each tile; the model gets all tiles in one orientation at a time."""
        found: list[list[_Found]] = [[] for _ in tiles]
        for variant, orientation in enumerate(ORIENTATIONS):
            results = self.model.tile_instances([orientation.apply(tile) for tile in tiles])
            for instances, result, tile in zip(found, results, tiles, strict=True):
                size = tile.shape[-2], tile.shape[-1]
                for box, score, label, patch in zip(
                    result.boxes.astype(np.float64),
                    result.scores.tolist(),
                    result.labels.tolist(),
                    result.masks,
                    strict=True,
                ):
                    instances.append(_Found(variant, score, label, *orientation.undo_instance(box, patch, size)))
        return [_together(instances) for instances in found]


class LogitsInAllOrientations:
    """A `ClassModel` whose logits are the mean of those of a model in eight orientations.

    Args:
        model: What gives the pixels of tiles their classes.
    """

    def __init__(self, model: ClassModel) -> None:
        self.model = model
        self.class_names = model.class_names

    def tile_logits(self, tiles: Sequence[Pixels]) -> list[NDArray[np.float32]]:
        """Logits (K, h, w) of each tile; the model gets all tiles in one orientation at a time."""
        totals: list[NDArray[np.float64]] = []
        for orientation in ORIENTATIONS:
            turned = self.model.tile_logits([orientation.apply(tile) for tile in tiles])
            upright = [orientation.undo(logits).astype(np.float64) for logits in turned]
            totals = [total + logits for total, logits in zip(totals, upright, strict=True)] if totals else upright
        return [(total / len(ORIENTATIONS)).astype(np.float32) for total in totals]


def with_tta(model: InstanceModel | ClassModel) -> InstancesInAllOrientations | LogitsInAllOrientations:
    """The model with test-time augmentation: eight times the work for results that depend less on orientation."""
    return InstancesInAllOrientations(model) if isinstance(model, InstanceModel) else LogitsInAllOrientations(model)


@dataclass(eq=False)
class _Found:
    """An instance that was found in one orientation, in pixels of the tile."""

    variant: int
    score: float
    label: int
    box: NDArray[np.float64]
    patch: Patch

    def __post_init__(self) -> None:
        self.area = int(self.patch.pixels.sum())
        self.free = True

    def overlap(self, other: "_Found") -> float:
        """IoU of the masks."""
        shared = _shared(self.patch, other.patch)
        return shared / max(1, self.area + other.area - shared)


def _together(instances: list[_Found]) -> TileInstances:
    """The objects of a tile from its instances in all orientations."""
    ranked = sorted(instances, key=lambda one: (-one.score, one.variant))
    frames = np.array([_frame(one.patch) for one in ranked], np.int64).reshape(-1, 4)
    objects = []
    for number, best in enumerate(ranked):
        if best.free:
            members = [best]
            best.free = False
            near = ((frames[:, :2] < frames[number, 2:]) & (frames[:, 2:] > frames[number, :2])).all(axis=1)
            members += _partners(best, [ranked[other] for other in np.flatnonzero(near)])
            objects.append((sum(one.score for one in members) / len(ORIENTATIONS), members))
    objects.sort(key=lambda one: -one[0])
    boxes = [np.mean([one.box for one in members], axis=0) for _, members in objects]
    return TileInstances(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([score for score, _ in objects], np.float32),
        np.array([members[0].label for _, members in objects], np.int64),
        [_majority([one.patch for one in members]) for _, members in objects],
    )


def _partners(best: _Found, near: Sequence[_Found]) -> Iterator[_Found]:
    """Of each other orientation the free instance that is the same object, if there is one."""
    closest: dict[int, tuple[float, _Found]] = {}
    for other in near:
        if other.free and other.variant != best.variant and other.label == best.label:
            overlap = best.overlap(other)
            if overlap >= IOU and overlap > closest.get(other.variant, (0.0, other))[0]:
                closest[other.variant] = overlap, other
    for variant in sorted(closest):
        partner = closest[variant][1]
        partner.free = False
        yield partner


def _majority(patches: Sequence[Patch]) -> Patch:
    """The pixels that half of the masks cover or more."""
    frames = np.array([_frame(patch) for patch in patches])
    top, left = frames[:, :2].min(axis=0).tolist()
    bottom, right = frames[:, 2:].max(axis=0).tolist()
    counts = np.zeros((bottom - top, right - left), np.uint8)
    for patch, (y1, x1, y2, x2) in zip(patches, frames.tolist(), strict=True):
        counts[y1 - top : y2 - top, x1 - left : x2 - left] += patch.pixels
    return Patch(top, left, (2 * counts >= len(patches)).astype(np.uint8)).trimmed()


def _frame(patch: Patch) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a patch."""
    return patch.top, patch.left, patch.top + patch.pixels.shape[0], patch.left + patch.pixels.shape[1]


def _shared(one: Patch, other: Patch) -> int:
    """Pixels that two masks have in common."""
    frames = np.array([_frame(one), _frame(other)])
    top, left = frames[:, :2].max(axis=0).tolist()
    bottom, right = frames[:, 2:].min(axis=0).tolist()
    if top >= bottom or left >= right:
        return 0
    first, second = (p.pixels[top - p.top : bottom - p.top, left - p.left : right - p.left] for p in (one, other))
    return int((first & second).sum())
