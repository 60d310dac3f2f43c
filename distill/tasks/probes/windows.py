"""Square windows around objects, as a probe sees them: pixels, the object in them, and classes of pixels.

Axes: H W pixels of the image file, S side of the window that a network sees.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from distill.data.fitting import PADDING
from distill.data.zoom import Zoom
from distill.patch import Patch


class Square(NamedTuple):
    """A square of the image file, in pixels; it reaches beyond an image that is smaller."""

    top: int
    left: int
    side: int

    @classmethod
    def around(cls, box: Sequence[float], image: tuple[int, int], context: float, smallest: int) -> "Square":
        """The square around a box, moved into the image where it reaches beyond.

        Args:
            box: x, y, width and height.
            image: H and W.
            context: Side over the longer side of the box.
            smallest: Least side in pixels.
        """
        x, y, width, height = box
        side = max(smallest, round(context * max(width, height)))
        top, left = (
            max(0, min(round(start + length / 2 - side / 2), full - side))
            for start, length, full in zip((y, x), (height, width), image, strict=True)
        )
        return cls(top, left, side)

    def zoom(self, size: int) -> Zoom:
        """Masks in the square, resized to `size`."""
        return Zoom((self.top, self.left, self.side, self.side), (size, size))

    def show(self, pixels: Tensor, size: int) -> Tensor:
        """The square of uint8 RGB (3, H, W), padded where the image ends, resized to (3, S, S)."""
        crop = pixels[:, self.top : self.top + self.side, self.left : self.left + self.side]
        if crop.shape[1:] != (self.side, self.side):
            canvas = torch.tensor([round(255 * level) for level in PADDING], dtype=torch.uint8)[:, None, None]
            canvas = canvas.repeat(1, self.side, self.side)
            canvas[:, : crop.shape[1], : crop.shape[2]] = crop
            crop = canvas
        return F.resize(crop, [size, size], antialias=True)

    def box(self, box: Sequence[float], size: int) -> Tensor:
        """Which pixels of the resized square a box x, y, width, height covers: bool (S, S), one or more."""
        scale = size / self.side
        x, y, width, height = box
        region = torch.zeros(size, size, dtype=torch.bool)
        rows, columns = (
            _covered((start - offset) * scale, length * scale, size)
            for start, length, offset in ((y, height, self.top), (x, width, self.left))
        )
        region[rows, columns] = True
        return region


def paint(canvas: Tensor, patch: Patch, value: int) -> None:
    """Sets the pixels of a patch on a canvas (S, S)."""
    height, width = patch.pixels.shape
    part = canvas[patch.top : patch.top + height, patch.left : patch.left + width]
    part[torch.from_numpy(patch.pixels != 0)] = value


def _covered(start: float, length: float, size: int) -> slice:
    """Whole pixels, one or more, of an interval inside 0 to `size`."""
    first = min(max(round(start), 0), size - 1)
    return slice(first, min(max(round(start + length), first + 1), size))
