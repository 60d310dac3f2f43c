"""Objects that a model finds in tiles of a scene.

Axes: N objects, h w pixels of a tile. Boxes are (x1, y1, x2, y2) in pixels, exclusive at the far edge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from distill.patch import Patch

Pixels = NDArray[np.uint8]  # RGB (3, h, w)


@dataclass(frozen=True)
class TileInstances:
    """Instances found in one tile, in pixels of the tile, best first.

    Attributes:
        boxes: (N, 4) float32.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64, index into the class names.
        masks: N rectangles, each the smallest that holds the mask.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: Sequence[Patch]

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Detection:
    """An object in pixels of the scene.

    Attributes:
        tile: Row and column of the tile that found it.
        box: See above.
        score: In [0, 1].
        label: Index into the class names.
        mask: The smallest rectangle that holds its pixels.
        truncated: Whether it touches the top, left, bottom and right border of its tile; a border of the scene itself
            does not count.
        parts: How many detections of neighbouring tiles it was joined from.
    """

    tile: tuple[int, int]
    box: tuple[float, float, float, float]
    score: float
    label: int
    mask: Patch
    truncated: tuple[bool, bool, bool, bool] = (False, False, False, False)
    parts: int = 1


@runtime_checkable
class InstanceModel(Protocol):
    """A model that finds instances in tiles."""

    class_names: list[str]

    def tile_instances(self, tiles: Sequence[Pixels]) -> list[TileInstances]:
        """Instances of each tile, uint8 RGB (3, h, w) of any sizes."""


@runtime_checkable
class ClassModel(Protocol):
    """A model that classifies the pixels of tiles."""

    class_names: list[str]

    def tile_logits(self, tiles: Sequence[Pixels]) -> list[NDArray[np.float32]]:
        """Logits (K, h, w) of each tile, uint8 RGB (3, h, w) of any sizes."""


Model = InstanceModel | ClassModel
