"""The size of a scene's tiles, and which scenes are predicted whole.

Sizes are in pixels of the scene.
"""

from dataclasses import dataclass

from distill.data.tiling import TilePlan

_OBJECTS = 1.5  # overlaps are that many times the side of a large object, so that most are whole in some tile


@dataclass(frozen=True)
class TileSize:
    """The size of the tiles of a run.

    Args:
        tile: Side of a tile.
        overlap: Least overlap of neighbours.
        whole: Scenes whose longer side is no larger are one tile, as when the run was tested.
    """

    tile: int
    overlap: int
    whole: int = 0

    @classmethod
    def chosen(
        cls, trained: int, whole: int, object_side: float | None, tile: int | None, overlap: int | None
    ) -> "TileSize":
        """The tiles of the training, unless the user says otherwise.

        Args:
            trained: Side of a tile of the training.
            whole: Longer side of the largest image of the training; 0 if it is not known.
            object_side: Side of a large object of the training; None if it is not known.
            tile: Side that the user gives.
            overlap: Overlap that the user gives.
        """
        side = trained if tile is None else tile
        if overlap is None:
            least, most = side / 8, side / 2
            overlap = side // 4 if object_side is None else round(min(max(_OBJECTS * object_side, least), most))
        return cls(side, overlap, whole if tile is None else 0)

    def shrunk(self, image_size: int) -> str | None:
        """A note that the network sees a tile, or a whole scene, in fewer pixels than it has; None where it does not.

        Args:
            image_size: Side of the square into which the network's view fits a tile.
        """
        largest = max(self.tile, self.whole)
        if largest <= image_size:
            return None
        return f"images of up to {largest} px are scaled to {image_size} px, the data.image_size of the training"

    def plan(self, height: int, width: int) -> TilePlan:
        """The tiles of a scene."""
        longest = max(height, width)
        if longest <= max(self.whole, self.tile):
            return TilePlan(height, width, longest, 0)
        return TilePlan(height, width, self.tile, self.overlap)
