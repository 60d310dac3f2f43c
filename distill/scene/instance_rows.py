"""The instances of a row of tiles in one small file: masks take a bit a pixel of their own rectangle."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.data.tiling import Tile
from distill.files import write_atomically
from distill.patch import Patch
from distill.scene.detections import TileInstances


def write_row(path: Path, found: Sequence[tuple[Tile, TileInstances]]) -> None:
    """Writes what was found in the tiles of a row, in one step.

    Args:
        path: The file.
        found: Tiles from left to right; those without data may be left out.
    """
    masks = [mask for _, instances in found for mask in instances.masks]
    bits = [np.packbits(mask.pixels) for mask in masks]
    arrays = {
        "columns": np.array([tile.column for tile, _ in found], np.int64),
        "counts": np.array([len(instances) for _, instances in found], np.int64),
        "boxes": _joined([instances.boxes for _, instances in found], np.zeros((0, 4), np.float32)),
        "scores": _joined([instances.scores for _, instances in found], np.zeros(0, np.float32)),
        "labels": _joined([instances.labels for _, instances in found], np.zeros(0, np.int64)),
        "frames": np.array([(mask.top, mask.left, *mask.pixels.shape) for mask in masks], np.int64).reshape(-1, 4),
        "bits": _joined(bits, np.zeros(0, np.uint8)),
    }

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # given a path, numpy would add a suffix to names of its choice
            np.savez(file, **arrays)  # type: ignore[arg-type]

    write_atomically(path, write)


def read_row(path: Path, tiles: Sequence[Tile]) -> Iterator[tuple[Tile, TileInstances]]:
    """Reads a file of `write_row`, tile by tile.

    Args:
        path: The file.
        tiles: All tiles of the row.
    """
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    frames, bits = arrays["frames"], arrays["bits"]
    lengths = -(-(frames[:, 2] * frames[:, 3]) // 8)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    bounds = np.concatenate([[0], np.cumsum(arrays["counts"])]).tolist()
    for column, (first, last) in zip(arrays["columns"].tolist(), pairwise(bounds), strict=True):
        masks = [
            Patch(top, left, _unpacked(bits[starts[i] : starts[i + 1]], height, width))
            for i, (top, left, height, width) in enumerate(frames[first:last].tolist(), start=first)
        ]
        part = slice(first, last)
        yield tiles[column], TileInstances(arrays["boxes"][part], arrays["scores"][part], arrays["labels"][part], masks)


def _unpacked(bits: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    return np.unpackbits(bits, count=height * width).reshape(height, width)


def _joined(arrays: Sequence[NDArray], empty: NDArray) -> NDArray:
    return np.concatenate([empty, *arrays]).astype(empty.dtype, copy=False)
