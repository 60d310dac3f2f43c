"""How an image that is larger than what a network sees is cut into overlapping tiles.

Axes: H W pixels of the image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from distill.errors import UserError


class Tile(NamedTuple):
    """A rectangle of the image, in pixels, and its place in the plan."""

    row: int
    column: int
    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class TilePlan:
    """Tiles that cover an image, spread evenly, row by row.

    Neighbours overlap by `overlap` pixels at least. Where that leaves room, all of them overlap more, so that no
    last tile repeats most of its neighbour. A side of the image that is shorter than a tile has one tile, as long as
    the side.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        tile: Side of a tile in pixels.
        overlap: Least overlap of neighbours in pixels, below `tile`.

    Raises:
        UserError: A number out of range.
    """

    height: int
    width: int
    tile: int
    overlap: int

    def __post_init__(self) -> None:
        if self.tile < 1:
            raise UserError(f"the side of a tile is {self.tile}; it must be 1 pixel or more")
        if not 0 <= self.overlap < self.tile:
            raise UserError(f"the overlap of tiles is {self.overlap}; it must lie between 0 and {self.tile - 1} pixels")

    @cached_property
    def tops(self) -> tuple[int, ...]:
        """The first pixel row of each row of tiles."""
        return spread(self.height, self.tile, self.overlap)

    @cached_property
    def lefts(self) -> tuple[int, ...]:
        """The first pixel column of each column of tiles."""
        return spread(self.width, self.tile, self.overlap)

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def row(self, number: int) -> list[Tile]:
        """The tiles of a row, from left to right."""
        height, width = min(self.tile, self.height), min(self.tile, self.width)
        return [Tile(number, column, self.tops[number], left, height, width) for column, left in enumerate(self.lefts)]

    def __iter__(self) -> Iterator[Tile]:
        return (tile for number in range(len(self.tops)) for tile in self.row(number))


def spread(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    """Where tiles along a side of `length` pixels start, the first at 0 and the last flush with the end."""
    if length <= tile:
        return (0,)
    steps = -(-(length - tile) // (tile - overlap))
    return tuple(round(step * (length - tile) / steps) for step in range(steps + 1))


def window_spans(side: int, window: int, stride: int) -> Iterator[slice]:
    """Windows along one side, `stride` pixels from one to the next, the last one flush with the end.

    Args:
        side: Of the image.
        window: Of a window; a shorter side has one window of its own length.
        stride: At most `window`.
    """
    last = max(0, side - window)
    for start in [*range(0, last, stride), last]:
        yield slice(start, min(start + window, side))
