"""Unlabelled images for distillation: every image below a folder, seen through random or fixed square views.

Axes: B batch, C = 3 channels RGB in [0, 1], S side of the view in pixels.
"""

import hashlib
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from distill.data.broken import BrokenImages
from distill.data.checks import at_least, band_numbers, ordered_pair, say_small_batches
from distill.data.images import find_images
from distill.data.loader import (
    Draw,
    OneLineErrorLoader,
    ResumableLoader,
    evaluation_loader,
    randomness_of,
    train_loader,
)
from distill.data.reader import ImageReader
from distill.errors import UserError
from distill.seeding import run_seed

logger = logging.getLogger(__name__)

_SLIVER = 8  # times as long as it is wide; less is resized whole


class FolderView(Dataset[dict[str, Any]]):
    """Images as square views.

    A training view is indexed with a `Draw` and is a function of (seed, draw); an evaluation view is indexed with an
    integer and resizes the short side, then crops the centre. Both enlarge images that are smaller than the view.

    Args:
        root: Folder that the names in a batch are relative to.
        paths: The images.
        image_size: Side S of the view.
        on_error: What to do with broken images, see `BrokenImages`.
        seed: Seed of the random views.
        scale: Range of the crop's area relative to the image's.
        flip: Whether random views are mirrored and turned by multiples of 90 degrees: seen from above there is no up.
        reader: Reads them; by default with the bands that `distill.data.images.read_image` chooses.
    """

    def __init__(
        self,
        root: Path,
        paths: Sequence[Path],
        image_size: int,
        on_error: str,
        seed: int = 0,
        scale: tuple[float, float] = (1.0, 1.0),
        flip: bool = False,
        reader: ImageReader | None = None,
    ) -> None:
        self.root = root
        self.paths = list(paths)
        self.seed = seed
        self.flip = flip
        self.broken = BrokenImages(len(self.paths), on_error)
        self.reader = reader or ImageReader(len(self.paths))
        self._size = image_size
        self._crop = v2.RandomResizedCrop(image_size, scale=scale, antialias=True)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, draw: Draw | int) -> dict[str, Any]:
        """One view: `image` float32 (3, S, S), `index` of the image read, and its `path` relative to the root."""
        index = draw if isinstance(draw, int) else draw.index
        index, pixels = self.broken.read(index, lambda candidate: self.reader.read(candidate, self.paths[candidate]))
        if isinstance(draw, int):
            view = centre_view(pixels, self._size)
        else:
            with randomness_of(self.seed, draw):
                view = self._random(pixels)
        path = self.paths[index].relative_to(self.root).as_posix()
        return {"image": view.float() / 255, "index": index, "path": path}

    def _random(self, pixels: Tensor) -> Tensor:
        view = self._crop(pixels)
        if not self.flip:
            return view
        turns, mirrored = int(torch.randint(4, ())), bool(torch.rand(()) < 0.5)
        view = torch.rot90(view, turns, dims=(1, 2))
        return view.flip(2) if mirrored else view


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


class ImageFolder(LightningDataModule):
    """All images below a folder, for distillation.

    Batches are dictionaries: `image` (B, 3, S, S) float32 in [0, 1], `index` (B,), `path` list of B names.

    Args:
        root: Folder of the training images, searched with its subfolders.
        image_size: Side S of the square views, in pixels.
        batch_size: Images per batch and process.
        val_root: Folder of the validation images; without it, `val_fraction` of `root` is held out.
        val_fraction: Share of `root` held out. An image belongs to it by a hash of its relative name, so the split
            stays when other images come or go. A single image trains, and nothing validates.
        val_limit: Validate on at most this many images, chosen by the same hash.
        num_workers: Processes that read images; 0 reads in the main process.
        on_error: "skip" replaces images that cannot be read and names each once; "raise" stops at the first.
        scale: Range of the random crop's area, relative to the image's.
        flip: Whether training views are mirrored and turned by multiples of 90 degrees.
        bands: Numbers, from 1, of one to three bands to show; by default red, green and blue where the file says which
            they are, else its first three.
        seed: Seed of order and views; by default that of the run.

    Raises:
        UserError: A folder is missing or holds no image, or an argument is out of its range.
    """

    class_names: ClassVar[list[str]] = []
    selects_on_test = False

    def __init__(
        self,
        root: str,
        image_size: int = 1024,
        batch_size: int = 4,
        val_root: str | None = None,
        val_fraction: float = 0.05,
        val_limit: int | None = None,
        num_workers: int = 2,
        on_error: str = "skip",
        scale: tuple[float, float] = (0.25, 1.0),
        flip: bool = True,
        bands: list[int] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= val_fraction < 1:
            raise UserError(f"val_fraction is {val_fraction}; it must be 0 or more and below 1")
        if val_limit is not None:
            at_least("val_limit", val_limit, 1)
        self.root = root
        self.image_size = at_least("image_size", image_size, 1)
        self.batch_size = at_least("batch_size", batch_size, 1)
        self.val_root = val_root
        self.val_fraction = val_fraction
        self.val_limit = val_limit
        self.num_workers = at_least("num_workers", num_workers, 0)
        self.on_error = on_error
        self.scale = ordered_pair("scale", scale, highest=1.0)
        self.flip = flip
        self.bands = band_numbers("bands", bands)
        self.seed = run_seed() if seed is None else seed
        self.train_set: FolderView | None = None
        self.val_set: FolderView | None = None

    def setup(self, stage: str) -> None:
        """Finds the images and splits them. Repeated calls do nothing."""
        if self.train_set is not None:
            return
        root = Path(self.root)
        paths = find_images(root)
        val_root, val_paths = root, []
        if self.val_root is not None:
            val_root = Path(self.val_root)
            val_paths = find_images(val_root, key="val_root")
        elif self.val_fraction > 0:
            paths, val_paths = _split(root, paths, self.val_fraction)
            if not val_paths:
                logger.warning(
                    "%r is the only image below %r: it is trained on, and nothing is validated; give data.val_root",
                    paths[0].name,
                    self.root,
                )
        val_paths = sorted(val_paths, key=lambda path: _position(val_root, path))[: self.val_limit]
        reader = ImageReader(len(paths), self.bands)
        self.train_set = FolderView(
            root, paths, self.image_size, self.on_error, self.seed, self.scale, self.flip, reader
        )
        reader = ImageReader(len(val_paths), self.bands, before=reader)
        self.val_set = FolderView(val_root, val_paths, self.image_size, self.on_error, reader=reader)
        say_small_batches(self.batch_size, len(paths))

    @property
    def skipped(self) -> list[str]:
        """Names of the broken images found so far, relative to their folder."""
        sets = [data for data in (self.train_set, self.val_set) if data is not None]
        return [data.paths[i].relative_to(data.root).as_posix() for data in sets for i in data.broken.indices]

    def train_dataloader(self) -> ResumableLoader:
        """Random views, shuffled; resumable in the middle of an epoch."""
        self.setup("fit")
        assert self.train_set is not None
        return train_loader(self.train_set, self.batch_size, self.num_workers, self.seed, self.trainer)

    def val_dataloader(self) -> OneLineErrorLoader | list[DataLoader[Any]]:
        """Fixed views of the held-out images; no loader when nothing is held out."""
        self.setup("validate")
        assert self.val_set is not None
        if len(self.val_set) == 0:
            return []
        return evaluation_loader(self.val_set, self.batch_size, self.num_workers)

    def teardown(self, stage: str) -> None:
        """Says how many images were skipped or turned."""
        for part, data in (("train", self.train_set), ("val", self.val_set)):
            if data is not None:
                data.broken.report()
                data.reader.report(part)


def _position(root: Path, path: Path) -> float:
    """A number in [0, 1) that depends on the relative name alone."""
    name = path.relative_to(root).as_posix().encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=6).digest(), "big") / 2**48


def _split(root: Path, paths: list[Path], fraction: float) -> tuple[list[Path], list[Path]]:
    """Training and validation paths; each gets at least one image where there are two, else training alone."""
    by_position = sorted(paths, key=lambda path: _position(root, path))
    count = sum(_position(root, path) < fraction for path in by_position)
    count = min(max(count, 1), len(paths) - 1)
    held_out = set(by_position[:count])
    return [path for path in paths if path not in held_out], by_position[:count]
