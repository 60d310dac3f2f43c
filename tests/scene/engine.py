"""Scenes and models for tests of the engine: no network, and results that depend on the pixels of a tile alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from distill.patch import Patch
from distill.scene.detections import Pixels, TileInstances
from distill.scene.model_facts import INSTANCES, ModelFacts
from distill.scene.tile_size import TileSize

NAMES = ("ship", "water")


def write_scene(
    path: Path, height: int = 200, width: int = 260, seed: int = 0, crs: str | None = "EPSG:32633", empty: int = 0
) -> Path:
    """A raster of bright squares on dark ground; its first `empty` columns hold no data."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 60, (3, height, width), dtype=np.uint8)
    for y, x in rng.integers(0, (height - 12, width - 12), (height * width // 1500, 2)):
        pixels[:, y : y + 12, x : x + 12] = 200
    pixels[:, :, :empty] = 0
    place: dict[str, Any] = {"nodata": 0} if empty else {}
    if crs is not None:
        place |= {"crs": crs, "transform": Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)}
    with rasterio.open(path, "w", "GTiff", width, height, 3, dtype="uint8", **place) as file:
        file.write(pixels)
    return path


class Squares:
    """Finds bright squares by looking at a grid: every bright pixel on it is the corner of an object."""

    def __init__(self) -> None:
        self.class_names = list(NAMES)
        self.calls: list[int] = []

    def tile_instances(self, tiles: Sequence[Pixels]) -> list[TileInstances]:
        self.calls.append(len(tiles))
        return [self._find(tile[0]) for tile in tiles]

    def tile_logits(self, tiles: Sequence[Pixels]) -> list[NDArray[np.float32]]:
        self.calls.append(len(tiles))
        return [np.stack([tile[0], 120.0 - tile[1]]).astype(np.float32) for tile in tiles]

    def _find(self, grey: NDArray[np.uint8]) -> TileInstances:
        bright = grey > 150
        corner = bright.copy()
        corner[1:] &= ~bright[:-1]
        corner[:, 1:] &= ~bright[:, :-1]
        patches = []
        for y, x in np.argwhere(corner):
            height, width = (int(np.argmin([*line, False])) for line in (bright[y:, x], bright[y, x:]))
            patches.append(Patch(int(y), int(x), np.ones((height, width), np.uint8)))
        boxes = [(p.left, p.top, p.left + p.pixels.shape[1], p.top + p.pixels.shape[0]) for p in patches]
        scores = np.linspace(0.9, 0.4, len(patches), dtype=np.float32)
        labels = np.array([p.pixels.size % 2 for p in patches], np.int64)
        return TileInstances(np.array(boxes, np.float32).reshape(-1, 4), scores, labels, patches)


def facts(task: str = INSTANCES, tile: int = 96, whole: int = 0, cap: int | None = None) -> ModelFacts:
    """A run of which nothing is on the disk."""
    return ModelFacts("runs/mine", task, NAMES, "digest", "0.1.0", TileSize(tile, tile // 4, whole), cap=cap)


def files(out: Path) -> dict[str, bytes]:
    """What a prediction wrote, by name, but for what holds seconds."""
    paths = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name != "summary.json"]
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in paths
        if not (path.parent.name == ".predict" and (path.suffix in (".json", ".lock")))
    }
