"""How training tiles are cut, and which of them are kept."""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from distill.data.tiling import Tile, TilePlan
from distill.errors import UserError, unknown_name

REMAINDERS = ("ignore", "drop")


@dataclass(frozen=True)
class TileSettings:
    """How training tiles are cut, and which of them are kept.

    Args:
        tile: Side of a tile in pixels; an image with a shorter side has tiles as long as that side.
        overlap: Least overlap of neighbours in pixels; by default a quarter of a tile.
        min_visible: An object of which a tile shows a smaller share of the pixels is a remainder there.
        remainders: "ignore" keeps remainders as regions to ignore (`iscrowd`), "drop" leaves them out.
        empty: Share of the tiles without an object, or without a labelled pixel, that is kept.
        seed: Decides which of these are kept.

    Raises:
        UserError: A number out of range, or an unknown word.
    """

    tile: int
    overlap: int | None = None
    min_visible: float = 0.4
    remainders: str = "ignore"
    empty: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        self.plan(1, 1)  # refuses a tile and an overlap that contradict each other
        for option, value in (("--min-visible", self.min_visible), ("--empty", self.empty)):
            if not 0 <= value <= 1:
                raise UserError(f"{option} is {value:g}; it is a share and must lie in 0 to 1")
        if self.remainders not in REMAINDERS:
            raise unknown_name("--remainders word", self.remainders, REMAINDERS)

    def plan(self, height: int, width: int) -> TilePlan:
        """The tiles of an image."""
        return TilePlan(height, width, self.tile, self.tile // 4 if self.overlap is None else self.overlap)

    def keeps_empty(self, name: str, tile: Tile) -> bool:
        """Whether an empty tile is kept.

        That depends on the seed, the name of the image and the place of the tile alone, so it stays when other images
        come or go, and a larger share keeps the tiles of a smaller one.
        """
        digest = hashlib.blake2b(f"{self.seed}/{name}/{tile.top}/{tile.left}".encode(), digest_size=6).digest()
        return int.from_bytes(digest, "big") / 2**48 < self.empty

    def as_json(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)
