"""Tiles of large images with instances, for an evaluation that scores the whole images.

Axes: S side of the view that a tile is fitted into.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from distill.contracts import Target
from distill.data.tiling import Tile, TilePlan
from distill.data.views.instances import InstanceViews, view
from distill.data.views.window import fitting_window

Sample = tuple[Tensor, Target, Tile]


class InstanceTiles(Dataset[Sample]):
    """The tiles of all images, image by image; each is fitted into the view as a whole image is.

    Targets hold no objects: what is scored are whole images. An image is decoded once for all its tiles, as long as
    they are asked for one after the other.

    Args:
        views: The images.
        tile: Side of a tile, in pixels of the file.
        overlap: Least overlap of neighbours, likewise.
    """

    def __init__(self, views: InstanceViews, tile: int, overlap: int) -> None:
        self.views = views
        self.places = [
            (index, place)
            for index, image in enumerate(views.images)
            for place in TilePlan(image["height"], image["width"], tile, overlap)
        ]
        self._decoded = -1
        self._pixels = torch.zeros(0)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Sample:
        """The view (3, S, S) of a tile, a target without objects, and where the tile lies."""
        index, tile = self.places[number]
        if self._decoded != index:
            _, self._pixels = self.views.broken.read(index, self.views.read)
            self._decoded = index
        pixels = self._pixels[:, tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
        size = self.views.image_size
        window = fitting_window(tile.height, tile.width, size)
        return *view(pixels, [], self.views.images[index]["id"], window, size), tile

    def images_among(self, count: int) -> int:
        """How many images the first `count` tiles belong to."""
        return self.places[min(count, len(self)) - 1][0] + 1 if count and len(self) else 0


def collate_tiles(samples: list[Sample]) -> dict[str, Any]:
    """A batch as of whole images, and the `tiles`."""
    images, targets, tiles = zip(*samples, strict=True)
    return {"image": torch.stack(images), "targets": list(targets), "tiles": list(tiles)}
