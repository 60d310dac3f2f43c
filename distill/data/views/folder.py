"""Views of unlabelled images: random crops for training, the centre for evaluation.

Axes: C = 3 channels RGB in [0, 1], S side of the view in pixels.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from distill.data.image_list import ImageList, LooseImages
from distill.data.reader import ImageReader
from distill.data.views.base import Views

_SLIVER = 8  # times as long as it is wide; less is resized whole


class FolderViews(Views[dict[str, Any]]):
    """Images as square views: `image` float32 (3, S, S), `index` of the image read, and its `path` below the root.

    A training view is a random crop. An evaluation view resizes the short side, then crops the centre. Both enlarge
    images that are smaller than the view.

    Args:
        root: Folder that the names in a batch are relative to, where `paths` are no `ImageList`, which knows names.
        paths: The images.
        image_size: Side S of the view.
        on_error: What to do with broken images, see `BrokenImages`.
        seed: Seed of the random views.
        crop_area: Range of the crop's area relative to the image's.
        flip: Whether random views are mirrored.
        turns: Whether they are turned by multiples of 90 degrees.
        reader: Reads them; by default with the bands that `distill.data.images.read_image` chooses.
    """

    def __init__(
        self,
        root: Path,
        paths: ImageList | Sequence[Path],
        image_size: int,
        on_error: str,
        seed: int = 0,
        crop_area: tuple[float, float] = (1.0, 1.0),
        flip: bool = False,
        turns: bool = False,
        reader: ImageReader | None = None,
    ) -> None:
        super().__init__(len(paths), on_error, seed, reader)
        self.paths = paths if isinstance(paths, ImageList) else LooseImages.of(root, paths)
        self.flip = flip
        self.turns = turns
        self.image_size = image_size
        self.crop_area = crop_area

    def read(self, index: int) -> Tensor:
        """uint8 RGB (3, H, W)."""
        return self.reader.read(index, self.paths[index])

    def fixed(self, index: int, content: Tensor) -> dict[str, Any]:
        """The centre."""
        return self._sample(index, centre_view(content, self.image_size))

    def random(self, index: int, content: Tensor, size: int) -> dict[str, Any]:
        """A random crop, mirrored and turned."""
        view = v2.RandomResizedCrop(size, scale=self.crop_area, antialias=True)(content)
        if self.turns:
            view = torch.rot90(view, int(torch.randint(4, ())), dims=(1, 2))
        # With turns, mirroring along one axis reaches all eight orientations alike.
        for axis in (2,) if self.turns else (2, 1):
            if self.flip and bool(torch.rand(()) < 0.5):
                view = view.flip(axis)
        return self._sample(index, view)

    def name(self, index: int) -> str:
        """The path below the root."""
        return self.paths.name(index)

    def _sample(self, index: int, view: Tensor) -> dict[str, Any]:
        return {"image": view.float() / 255, "index": index, "path": self.name(index)}


def centre_view(pixels: Tensor, size: int) -> Tensor:
    """The square view of an image's centre, its short side enlarged or shrunk to S.

    Of a sliver only the part that is seen is resampled: resized whole, 1 x 3000 pixels would take 9 GB at 1024.

    Args:
        pixels: uint8 (3, H, W).
        size: Side S.

    Returns:
        uint8 (3, S, S).
    """
    short, long = sorted(pixels.shape[-2:])
    if long > _SLIVER * short:
        axis = -1 if pixels.shape[-1] == long else -2
        length = size * long // short  # of the long side, resized
        first, weights = _resampling(long, length, round((length - size) / 2), size)
        part = pixels.narrow(axis, first, weights.shape[1]).transpose(axis, -1).float()
        part = (part @ weights.T).transpose(axis, -1)
        pixels = part.round().clamp(0, 255).to(torch.uint8).contiguous()
        return F.resize(pixels, [size, size], antialias=True)
    return F.center_crop(F.resize(pixels, [size], antialias=True), [size, size])


def _resampling(length: int, resized: int, start: int, count: int) -> tuple[int, Tensor]:
    """Antialiased linear interpolation of a line from `length` to `resized` pixels; of these, `count` from `start` on.

    Returns:
        The first pixel of the line that they depend on, and the weights (count, n) of the n pixels from it on.
    """
    step = length / resized
    support = max(step, 1.0)
    first = max(0, math.floor(start * step - support))
    last = min(length, math.ceil((start + count) * step + support))
    centres = (torch.arange(start, start + count, dtype=torch.float64) + 0.5) * step
    distances = torch.arange(first, last, dtype=torch.float64) + 0.5 - centres[:, None]
    weights = (1 - distances.abs() / support).clamp(min=0)
    return first, (weights / weights.sum(dim=1, keepdim=True)).float()
