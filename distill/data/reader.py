"""Reading the images of a data set alike, and saying once what is done to them."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from distill.data.images import decode_image

logger = logging.getLogger(__name__)


class ImageReader:
    """Reads images with the same bands, and names the first that is turned by its EXIF orientation, and the first of
    which bands are left out. The record lies in shared memory, so workers of a loader do not repeat each other.

    Args:
        count: Number of images.
        bands: Numbers, from 1, of the bands to show; see `distill.data.images.read_image`.
    """

    def __init__(self, count: int, bands: Sequence[int] | None) -> None:
        self.bands = bands
        self._turned = torch.zeros(count, dtype=torch.bool).share_memory_()
        self._told = torch.zeros(1, dtype=torch.bool).share_memory_()

    def read(self, index: int, path: Path) -> Tensor:
        """uint8 RGB (3, H, W) of `path`, the image of number `index`.

        Raises:
            BrokenImage: See `distill.data.images.read_image`.
        """
        image = decode_image(path, self.bands)
        if image.left_out and not self._told.any():
            self._told[0] = True
            logger.warning(
                "image %r %s, and so in every image like it; choose others with data.bands", str(path), image.left_out
            )
        if image.turned:
            first = not self._turned.any()
            self._turned[index] = True
            if first:
                logger.warning(
                    "image %r is turned upright by its EXIF orientation, as labelling tools show it", str(path)
                )
        return image.pixels

    def was_turned(self, index: int) -> bool:
        """Whether that image was, when it was read."""
        return bool(self._turned[index])

    def report(self) -> None:
        """Logs how many images were turned, if any."""
        if turned := int(self._turned.sum()):
            logger.warning("turned %d of %d images upright by their EXIF orientation", turned, len(self._turned))
