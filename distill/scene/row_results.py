"""The results of the tiles of one row, until they are written to the row's file.

Axes: K classes, h w pixels of a tile.
"""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.tiling import Tile, TilePlan
from distill.patch import Patch
from distill.scene.detections import ClassModel, InstanceModel, Pixels, TileInstances
from distill.scene.instance_rows import write_row
from distill.scene.mosaic import RowBlender
from distill.scene.strips import SeenTile
from distill.scene.writing import Writing

_LEAST_VALID = 0.5  # of the pixels of an instance must be data


class RowResults(Writing):
    """Takes the tiles of a row from left to right. A context manager: at the end it writes the file of the row.

    Attributes:
        full_tiles: Tiles with as many instances as the model can find.
    """

    full_tiles = 0

    @abstractmethod
    def predict(self, tiles: Sequence[Pixels]) -> Sequence[Any]:
        """The model's results of some tiles."""

    @abstractmethod
    def add(self, seen: SeenTile, result: Any) -> int:
        """Takes a tile and its result, None if it has no data; returns how many instances are kept."""


class InstanceRow(RowResults):
    """The instances of a row of tiles.

    Args:
        model: Finds them.
        path: The file of the row.
        labels: Those that are kept.
        score: Instances with a lower one are left out.
        cap: How many instances the model finds in a tile at most.
    """

    def __init__(self, model: InstanceModel, path: Path, labels: Sequence[int], score: float, cap: int | None) -> None:
        self._model, self._path = model, path
        self._labels, self._score, self._cap = np.array(labels), score, cap
        self._found: list[tuple[Tile, TileInstances]] = []

    def predict(self, tiles: Sequence[Pixels]) -> list[TileInstances]:
        """See `RowResults`."""
        return self._model.tile_instances(tiles)

    def add(self, seen: SeenTile, result: TileInstances | None) -> int:
        """See `RowResults`."""
        if result is None:
            return 0
        self.full_tiles += self._cap is not None and len(result) >= self._cap
        kept = (result.scores >= self._score) & np.isin(result.labels, self._labels)
        if not seen.valid.all():
            kept &= np.array([_share_of_data(mask, seen.valid) >= _LEAST_VALID for mask in result.masks], bool)
        chosen = np.flatnonzero(kept)
        masks = [result.masks[i] for i in chosen.tolist()]
        instances = TileInstances(result.boxes[chosen], result.scores[chosen], result.labels[chosen], masks)
        self._found.append((seen.tile, instances))
        return len(instances)

    def close(self) -> None:
        """See `RowResults`."""
        write_row(self._path, self._found)

    def discard(self) -> None:
        """See `RowResults`; nothing is written before the end."""


class ClassRow(RowResults):
    """The classes of the pixels of a row of tiles.

    Args:
        model: Gives them.
        plan: All tiles.
        row: Number of the row.
        path: The file of the row.
        confidence: Whether the probability of the class is kept, too.
    """

    def __init__(self, model: ClassModel, plan: TilePlan, row: int, path: Path, confidence: bool) -> None:
        self._model = model
        self._blender = RowBlender(plan, row, len(model.class_names), path, confidence)

    def predict(self, tiles: Sequence[Pixels]) -> list[NDArray[np.float32]]:
        """See `RowResults`."""
        return self._model.tile_logits(tiles)

    def add(self, seen: SeenTile, result: NDArray[np.float32] | None) -> int:
        """See `RowResults`."""
        self._blender.add(seen.tile, result, seen.valid)
        return 0

    def close(self) -> None:
        """See `RowResults`."""
        self._blender.close()

    def discard(self) -> None:
        """See `RowResults`."""
        self._blender.discard()


def _share_of_data(mask: Patch, valid: NDArray[np.bool_]) -> float:
    height, width = mask.pixels.shape
    inside = valid[mask.top : mask.top + height, mask.left : mask.left + width][mask.pixels.astype(bool)]
    return float(inside.mean()) if inside.size else 0.0
