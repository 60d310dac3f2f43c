"""Rows of instances on the disk."""

from pathlib import Path

import numpy as np

from distill.data.tiling import TilePlan
from distill.patch import Patch
from distill.scene.detections import TileInstances
from distill.scene.instance_rows import read_row, write_row


def test_a_row_comes_back_as_it_was(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tiles = TilePlan(100, 400, 100, 20).row(0)

    def instances(count: int) -> TileInstances:
        masks = [Patch(i, 2 * i, rng.integers(0, 2, rng.integers(1, 30, 2), dtype=np.uint8)) for i in range(count)]
        boxes = rng.random((count, 4), np.float32)
        return TileInstances(boxes, rng.random(count, np.float32), rng.integers(0, 9, count), masks)

    found = [(tiles[0], instances(3)), (tiles[2], instances(0)), (tiles[3], instances(1))]
    write_row(tmp_path / "row", found)
    back = list(read_row(tmp_path / "row", tiles))
    assert [tile for tile, _ in back] == [tile for tile, _ in found]
    for (_, one), (_, other) in zip(found, back, strict=True):
        for name in ("boxes", "scores", "labels"):
            stored = getattr(other, name)
            assert stored.dtype == getattr(one, name).dtype
            assert np.array_equal(stored, getattr(one, name))
        for mask, same in zip(one.masks, other.masks, strict=True):
            assert (mask.top, mask.left) == (same.top, same.left)
            assert np.array_equal(mask.pixels, same.pixels)
    first = (tmp_path / "row").read_bytes()
    write_row(tmp_path / "row", found)
    assert (tmp_path / "row").read_bytes() == first


def test_a_row_without_data_is_empty(tmp_path: Path) -> None:
    write_row(tmp_path / "row", [])
    assert list(read_row(tmp_path / "row", TilePlan(10, 10, 10, 0).row(0))) == []
