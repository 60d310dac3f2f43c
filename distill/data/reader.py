"""Reads all images of a data set in the same way, and reports once what is done to them."""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from distill.data.images import decode_image
from distill.data.packed import Source

logger = logging.getLogger(__name__)


class ImageReader:
    """Reads images with the same bands, and names the first that is turned by its EXIF orientation, and the first of
    which bands are left out. The record lies in shared memory, so workers of a loader do not repeat each other.

    Args:
        count: Number of images.
        bands: Numbers, from 1, of the bands to show; see `distill.data.images.read_image`.
        before: The reader of another part of the data set, whose messages are not repeated.
    """

    def __init__(self, count: int = 0, bands: Sequence[int] | None = None, before: "ImageReader | None" = None) -> None:
        self.bands = bands
        self._turned = torch.zeros(count, dtype=torch.bool).share_memory_()
        self._said: Tensor = torch.zeros(2, dtype=torch.bool).share_memory_() if before is None else before._said

    def read(self, index: int, path: Source) -> Tensor:
        """uint8 RGB (3, H, W) of `path`, the image of number `index`.

        Raises:
            BrokenImage: See `distill.data.images.read_image`.
        """
        image = decode_image(path, self.bands)
        if image.left_out and not self._said[0]:
            self._said[0] = True
            logger.warning("image %r %s, like every such image; data.bands chooses others", str(path), image.left_out)
        if image.turned:
            self._turned[index] = True
            if not self._said[1]:
                self._said[1] = True
                logger.warning("image %r is turned upright by its EXIF orientation, as is every such image", str(path))
        return image.pixels

    def was_turned(self, index: int) -> bool:
        """Whether that image was, when it was read."""
        return bool(self._turned[index])

    def report(self, part: str) -> None:
        """Logs how many images were turned, if any; `part` says of what."""
        if turned := int(self._turned.sum()):
            logger.warning("turned %d of %d %s images upright, see EXIF", turned, len(self._turned), part)
