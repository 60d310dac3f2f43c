"""The file of a row of tiles for a class mosaic.

A file begins with a header of 512 bytes, JSON padded with spaces, which says what the file belongs to. Blocks of pixel
columns follow, from left to right: block c holds the columns that no tile after tile c of the row reaches. A block
consists of up to three bands of pixel rows, from top to bottom, each of one of two kinds:

- shared with another row of tiles: logits float32 (h, K, w), times the weight of this row of tiles, so that those of
  all rows that reach a pixel add up to its logits; then which pixels are data, (h, w / 8) bytes, by `numpy.packbits`;
- reached by this row of tiles alone: labels uint8 (h, w), 255 where there is no data; then, if wanted, confidences
  uint8 (h, w).

Axes: K classes, h w pixels.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.data.tiling import TilePlan
from distill.errors import UserError

NO_DATA = 255
_HEADER = 512  # bytes


class Band(NamedTuple):
    """Pixel rows of a row of tiles, counted from its top."""

    start: int
    stop: int
    shared: bool  # with another row of tiles


@dataclass(frozen=True)
class RowLayout:
    """Where things lie in the file of a row of tiles.

    Args:
        plan: Of the scene.
        row: Number of the row of tiles.
        classes: K.
        confidence: Whether confidences are kept beside labels.
    """

    plan: TilePlan
    row: int
    classes: int
    confidence: bool

    @cached_property
    def height(self) -> int:
        """Pixel rows of a tile."""
        return min(self.plan.tile, self.plan.height)

    @cached_property
    def bands(self) -> tuple[Band, ...]:
        """From top to bottom, without empty ones."""
        tops, top = self.plan.tops, self.plan.tops[self.row]
        above = tops[self.row - 1] + self.height - top if self.row else 0
        below = tops[self.row + 1] - top if self.row + 1 < len(tops) else self.height
        if above >= below:
            return (Band(0, self.height, True),)
        bands = (Band(0, above, True), Band(above, below, False), Band(below, self.height, True))
        return tuple(band for band in bands if band.start < band.stop)

    @cached_property
    def columns(self) -> tuple[tuple[int, int], ...]:
        """First pixel column of each block, and the first after it."""
        return tuple(zip(self.plan.lefts, (*self.plan.lefts[1:], self.plan.width), strict=True))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where each block starts in the file, and the end of the file, in bytes."""
        starts = [_HEADER]
        for left, right in self.columns:
            starts.append(starts[-1] + sum(self._bytes(band, right - left) for band in self.bands))
        return tuple(starts)

    @cached_property
    def header(self) -> bytes:
        """Says what the file belongs to."""
        plan = self.plan
        facts = {
            "format": "class mosaic row 1",
            "scene": [plan.height, plan.width],
            "tile": plan.tile,
            "overlap": plan.overlap,
            "row": self.row,
            "classes": self.classes,
            "confidence": self.confidence,
        }
        return json.dumps(facts).encode().ljust(_HEADER)

    def band_of(self, row: int) -> int:
        """Number of the band that a pixel row of the tiles lies in."""
        return bisect_right([band.start for band in self.bands], row) - 1

    def place(self, block: int, band: int) -> int:
        """Where a band of a block starts in the file, in bytes."""
        left, right = self.columns[block]
        return self.starts[block] + sum(self._bytes(earlier, right - left) for earlier in self.bands[:band])

    def _bytes(self, band: Band, width: int) -> int:
        height = band.stop - band.start
        if band.shared:
            return height * (self.classes * width * 4 + -(-width // 8))
        return height * width * (1 + self.confidence)


class RowReader:
    """Reads the file of a row of tiles.

    Args:
        path: The file.
        layout: What it should hold.

    Raises:
        UserError: It is missing, cut short, or belongs to something else.
    """

    def __init__(self, path: Path, layout: RowLayout) -> None:
        self.layout = layout
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); predict the scene again") from error
        if self._file.read(_HEADER) != layout.header or path.stat().st_size != layout.starts[-1]:
            self._file.close()
            raise UserError(f"{path} does not belong to this prediction, or is incomplete; delete it and predict again")

    def __enter__(self) -> "RowReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def shared(self, block: int, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Weighted logits (h, K, w) and which pixels are data (h, w) of pixel rows of the tiles, all in one band."""
        number, band, width = self._locate(block, start)
        height, place = stop - start, self.layout.place(block, number)
        line, bits = self.layout.classes * width * 4, -(-width // 8)
        logits = self._read(place + (start - band.start) * line, height * line).view(np.float32)
        place += (band.stop - band.start) * line + (start - band.start) * bits
        valid = np.unpackbits(self._read(place, height * bits).reshape(height, bits), axis=1, count=width)
        return logits.reshape(height, self.layout.classes, width), valid.astype(bool)

    def alone(self, block: int, start: int, stop: int) -> Iterable[NDArray[np.uint8]]:
        """Labels (h, w), and confidences if there are any, of pixel rows of the tiles, all in one band."""
        number, band, width = self._locate(block, start)
        place, size = self.layout.place(block, number), (band.stop - band.start) * width
        for layer in range(1 + self.layout.confidence):
            values = self._read(place + layer * size + (start - band.start) * width, (stop - start) * width)
            yield values.reshape(stop - start, width)

    def _locate(self, block: int, row: int) -> tuple[int, Band, int]:
        number = self.layout.band_of(row)
        left, right = self.layout.columns[block]
        return number, self.layout.bands[number], right - left

    def _read(self, place: int, size: int) -> NDArray[Any]:
        self._file.seek(place)
        return np.fromfile(self._file, np.uint8, size)


def row_bytes(plan: TilePlan, row: int, classes: int, confidence: bool) -> int:
    """Size of the file of a row of tiles in bytes."""
    return RowLayout(plan, row, classes, confidence).starts[-1]
