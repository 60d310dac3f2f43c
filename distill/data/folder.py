"""Unlabelled images for distillation: every image below a folder.

Axes: B batch, S side of the view in pixels.
"""

import logging
from functools import cached_property
from pathlib import Path
from typing import Any

from distill.data.base import ImageData
from distill.data.checks import at_least, ordered_pair
from distill.data.images import find_images
from distill.data.selection import by_name, hold_out_by_name
from distill.data.views.folder import FolderViews

logger = logging.getLogger(__name__)


class ImageFolder(ImageData):
    """All images below a folder, without labels.

    Batches are dictionaries: `image` (B, 3, S, S) float32 in [0, 1], `path` relative to the folder, and `index`.
    Training views are random crops; validation views show the centre. There is no test split.

    Args:
        root: Folder of the training images.
        image_size: Side S of the square views in pixels.
        val_root: Folder of the validation images; without it, `val_fraction` of `root` is held out.
        val_fraction: Share of the training images that is held out and validated on. An image belongs to it by a hash
            of its name below `root`, so it stays there when other images come or go. A single image trains, and
            nothing validates.
        val_limit: Validate on at most this many images, chosen by the same hash.
        crop_area: Range of the random crop's area, relative to the image's.
        turns: Whether training views are turned by a random multiple of 90 degrees; by default as `flip`.
        **kwargs: Everything else that `ImageData` takes.

    Raises:
        UserError: A folder is missing or holds no image, or an argument is out of its range.
    """

    splits = ("train", "val")

    def __init__(
        self,
        root: str,
        image_size: int = 1024,
        val_root: str | None = None,
        val_fraction: float = 0.05,
        val_limit: int | None = None,
        crop_area: tuple[float, float] = (0.25, 1.0),
        turns: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_size=image_size, val_fraction=val_fraction, turns=False, **kwargs)
        self.turns = self.flip if turns is None else turns
        self.root = Path(root)
        self.val_root = None if val_root is None else Path(val_root)
        self.val_limit = None if val_limit is None else at_least("val_limit", val_limit, 1)
        self.crop_area = ordered_pair("crop_area", crop_area, highest=1.0)

    def views(self, split: str) -> FolderViews:
        """The images of "train" or "val"."""
        train, val = self._parts
        if split == "train":
            paths = self.limited(train)
            return FolderViews(
                self.root,
                paths,
                self.image_size,
                self.on_error,
                self.seed,
                self.crop_area,
                self.flip,
                self.turns,
                self.reader(len(paths)),
            )
        root = self.val_root or self.root
        paths = by_name(root, val)[: self.val_limit]
        return FolderViews(root, paths, self.image_size, self.on_error, reader=self.reader(len(paths)))

    def scored(self, data: FolderViews, index: int) -> Any:
        """Name below the folder, and size of the file in bytes."""
        return data.name(index), data.paths[index].stat().st_size

    @cached_property
    def _parts(self) -> tuple[list[Path], list[Path]]:
        """Images to train on, and to validate on."""
        paths = find_images(self.root)
        if self.val_root is not None:
            return paths, find_images(self.val_root, key="val_root")
        train, val = hold_out_by_name(self.root, paths, self.val_fraction)
        if self.val_fraction and not val:
            logger.warning(
                "%r is the only image below %r: it is trained on, and nothing is validated; give data.val_root",
                paths[0].name,
                str(self.root),
            )
        return train, val
