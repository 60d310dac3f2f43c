"""How large the tiles of a scene are, and which scenes are predicted whole.

Sizes are in pixels of the scene.
"""

from dataclasses import dataclass

from distill.data.tiling import TilePlan


@dataclass(frozen=True)
class TileSize:
    """What a run sees at once.

    Args:
        tile: Side of a tile.
        overlap: Least overlap of neighbours.
        whole: Scenes whose longer side is no larger are one tile, as when the run was tested.
    """

    tile: int
    overlap: int
    whole: int = 0

    def plan(self, height: int, width: int) -> TilePlan:
        """The tiles of a scene."""
        longest = max(height, width)
        if longest <= max(self.whole, self.tile):
            return TilePlan(height, width, longest, 0)
        return TilePlan(height, width, self.tile, self.overlap)
