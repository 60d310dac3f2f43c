"""The pixels of a row of tiles, read in few large windows.

A file that is stored in lines is decoded whole for every window, however narrow, so a row of tiles is read at once, or
in parts of limited memory where a scene is very wide.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.data.tiling import Tile
from distill.scene.detections import Pixels
from distill.scene.source import Scene

_MOST = 24_000_000  # pixels of a window: 96 MB with the flags of valid ones


class SeenTile(NamedTuple):
    """A tile with its pixels, and which of them (h, w) are data; no pixels where none is."""

    tile: Tile
    pixels: Pixels | None
    valid: NDArray[np.bool_]


def read_tiles(scene: Scene, tiles: Sequence[Tile]) -> Iterator[SeenTile]:
    """The tiles of a row with their pixels, which are views of larger arrays."""
    for part in _parts(tiles):
        first, last = part[0], part[-1]
        pixels, valid = scene.read(first.top, first.left, first.height, last.left + last.width - first.left)
        for tile in part:
            columns = slice(tile.left - first.left, tile.left - first.left + tile.width)
            seen = valid[:, columns]
            yield SeenTile(tile, pixels[:, :, columns] if seen.any() else None, seen)


def _parts(tiles: Sequence[Tile]) -> Iterator[list[Tile]]:
    part: list[Tile] = []
    for tile in tiles:
        if part and (tile.left + tile.width - part[0].left) * tile.height > _MOST:
            yield part
            part = []
        part.append(tile)
    yield part
