"""Unlabelled images for distillation: those of a folder, of a list, or inside tars.

Axes: B batch, S side of the view in pixels.
"""

import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.base import ImageData
from distill.data.checks import at_least, ordered_pair
from distill.data.image_list import ImageList, list_images
from distill.data.selection import hash_positions, hold_out_by_position
from distill.data.sizes import read_headers, shrunk_images
from distill.data.views.folder import FolderViews
from distill.errors import UserError, unknown_name

logger = logging.getLogger(__name__)

SHUFFLES = ("full", "blocks")


class ImageFolder(ImageData):
    """All images below a folder, in a list or in tars, without labels.

    Batches are dictionaries: `image` (B, 3, S, S) float32 in [0, 1], `path` relative to the root, and `index`.
    Training views are random crops; validation views show the centre. There is no test split.

    Args:
        root: The training images: a folder of images or of `.tar` files, a `.tar` file, or a `.txt` or `.txt.gz` file
            that names an image on each line, relative to its own folder.
        image_size: Side S of the square views in pixels.
        val_root: The validation images, likewise; without it, `val_fraction` of `root` is held out.
        val_fraction: Share of the training images that is held out and validated on. An image belongs to it by a hash
            of its name below `root`, so it stays there when other images come or go. A single image trains, and
            nothing validates.
        val_limit: Validate on at most this many images, chosen by the same hash.
        train_fraction: Train on this share of the training images, chosen by the same hash: a larger share contains a
            smaller one.
        shuffle: "full" shuffles all training images of an epoch; "blocks" shuffles tars (or folders), then the images
            of a few of them at a time, for disks on which far jumps are slow.
        crop_area: Range of the random crop's area, relative to the image's.
        turns: Whether training views are turned by a random multiple of 90 degrees; by default as `flip`.
        **kwargs: Everything else that `ImageData` takes.

    Raises:
        UserError: A folder, list or tar is missing, cannot be used or holds no image; an argument is out of its range.
    """

    splits = ("train", "val")

    def __init__(
        self,
        root: str,
        image_size: int = 1024,
        val_root: str | None = None,
        val_fraction: float = 0.05,
        val_limit: int | None = None,
        train_fraction: float = 1.0,
        shuffle: str = "full",
        crop_area: tuple[float, float] = (0.25, 1.0),
        turns: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_size=image_size, val_fraction=val_fraction, turns=False, **kwargs)
        self.turns = self.flip if turns is None else turns
        self.root = Path(root)
        self.val_root = None if val_root is None else Path(val_root)
        self.val_limit = None if val_limit is None else at_least("val_limit", val_limit, 1)
        if not 0 < train_fraction <= 1:
            raise UserError(f"train_fraction is {train_fraction}; it must be above 0 and at most 1")
        if shuffle not in SHUFFLES:
            raise unknown_name("shuffle", shuffle, SHUFFLES)
        self.train_fraction = train_fraction
        self.shuffle = shuffle
        self.crop_area = ordered_pair("crop_area", crop_area, highest=1.0)

    def views(self, split: str) -> FolderViews:
        """The images of "train" or "val"."""
        train, val = self._parts
        if split == "train":
            return FolderViews(
                self.root,
                train,
                self.image_size,
                self.on_error,
                self.seed,
                self.crop_area,
                self.flip,
                self.turns,
                self.reader(len(train)),
            )
        root = self.val_root or self.root
        return FolderViews(root, val, self.image_size, self.on_error, reader=self.reader(len(val)))

    def blocks(self, data: FolderViews) -> NDArray[np.int32] | None:
        """The tar or folder that each training image lies in, if `shuffle` asks for it."""
        return data.paths.blocks() if self.shuffle == "blocks" else None

    def scored(self, data: FolderViews, index: int) -> Any:
        """Name below the root, and size of the file in bytes."""
        return data.name(index), data.paths.size(index)

    def shrunk(self) -> str | None:
        """From the header of the first image, whose shorter side is fitted into the view; None of images in tars."""
        first = self.dataset("train").paths[0]
        headers = read_headers([first]) if isinstance(first, Path) else []
        return shrunk_images([min(header) for header in headers], self.image_size, ", as the first one has,")

    @cached_property
    def _parts(self) -> tuple[ImageList, ImageList]:
        """Images to train on, in order, and to validate on, in that of their hashes."""
        images = list_images(self.root, key="data.root")
        positions = _positions(images)
        if self.val_root is not None:
            train, held_out = np.arange(len(images)), np.arange(0)
            others = list_images(self.val_root, key="data.val_root")
            val = others.only(_positions(others).argsort(kind="stable")[: self.val_limit])
        else:
            train, held_out = hold_out_by_position(positions, self.val_fraction)
            val = images.only(held_out[: self.val_limit])
            if self.val_fraction and not len(held_out):
                logger.warning(
                    "%r is the only image below %r: it is trained on, and nothing is validated; give data.val_root",
                    images.name(0),
                    str(self.root),
                )
        if self.train_fraction < 1:
            # The hashes from those held out on, of which this is the first part: more is added behind.
            start = 0.0 if self.val_root else self.val_fraction
            chosen = positions[train] < start + self.train_fraction * (1 - start)
            train = train[chosen] if chosen.any() else train[positions[train].argsort()[:1]]
        if self.train_limit is not None:
            train = train[self.limited(range(len(train)))]
        return images.only(train), val


def _positions(images: ImageList) -> NDArray[np.float64]:
    return hash_positions(images.names(), len(images))
