"""Probes of whole images in class folders.

Axes: N images, S side of an image in pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from distill.data.checks import share
from distill.data.class_folder import class_folders
from distill.data.selection import hash_positions, hold_out_by_position
from distill.errors import UserError
from distill.tasks.probes.base import ProbeBase, ProbeData, ProbeImages
from distill.tasks.probes.choice import choose
from distill.tasks.probes.windows import Square


class ImageProbe(ProbeBase):
    """Probes of scenes: which class an image has, by the folder that it lies in (`<root>/<class>/...jpg`).

    Of an image that is not square the middle is taken. It is resized to S, and features are pooled over all of it.
    Tokens are not probed.

    Args:
        root: Folder of the training images.
        val_root: Folder of the validation images, with the same classes; by default, training images are held out.
        val_fraction: Share of the images of each class that is held out, by a hash of their names.
        **kwargs: See `ProbeBase`. Each image takes S * S * 4 bytes of memory.

    Raises:
        UserError: An argument is out of its range; on reading, a folder is missing or empty, an image is broken, there
            is one class, or one has fewer training images than `shots`.
    """

    default_name = "images"
    unit = "image"
    units = "images"
    way_out = "add one, or remove its folder"

    def __init__(self, root: str, val_root: str | None = None, val_fraction: float = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)
        self.val_root = None if val_root is None else Path(val_root)
        self.val_fraction = share(self._key("val_fraction"), val_fraction)
        if val_root is None and not val_fraction:
            raise UserError(f"{self._key('val_fraction')} is 0; give a share of the images, or val_root")

    def read(self) -> ProbeData:
        """Reads the images.

        Raises:
            UserError: A folder is missing or empty, an image is broken, or there is one class.
        """
        train = class_folders(self.root, self._key("root"))
        if len(train) < 2:
            only = next(iter(train))
            raise UserError(f"probe {self.name!r}: {str(self.root)!r} holds the one class {only!r}; add others")
        if self.val_root is None:
            parts = [self._split(paths) for paths in train.values()]
            train_paths, val_paths = [part[0] for part in parts], [part[1] for part in parts]
        else:
            val = class_folders(self.val_root, self._key("val_root"))
            if val.keys() != train.keys():
                name = sorted(val.keys() ^ train.keys())[0]
                raise UserError(
                    f"probe {self.name!r}: class {name!r} has a folder in only one of {str(self.root)!r} and "
                    f"{str(self.val_root)!r}; both must have the same classes"
                )
            train_paths, val_paths = list(train.values()), [val[name] for name in train]
        return ProbeData(self._images(train_paths, "train"), self._images(val_paths, "val"), list(train))

    def _split(self, paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
        """Training images of a class, and those held out."""
        names = (path.relative_to(self.root).as_posix() for path in paths)
        parts = hold_out_by_position(hash_positions(names, len(paths)), self.val_fraction)
        train, val = ([paths[number] for number in part] for part in parts)
        return train, val

    def _images(self, paths: Sequence[Sequence[Path]], split: str) -> ProbeImages:
        """The chosen images among those of each class."""
        every = [(label, path) for label, of_class in enumerate(paths) for path in of_class]
        chosen = [every[place] for place in choose([label for label, _ in every], self.limits[split])]
        pixels = torch.empty(len(chosen), 3, self.image_size, self.image_size, dtype=torch.uint8)
        for number, (_, path) in enumerate(chosen):
            image = self.image(path)
            height, width = image.shape[1:]
            side = min(height, width)
            pixels[number] = Square((height - side) // 2, (width - side) // 2, side).show(image, self.image_size)
        regions = torch.ones(len(chosen), self.image_size, self.image_size, dtype=torch.bool)
        return ProbeImages(pixels, regions, torch.tensor([label for label, _ in chosen], dtype=torch.int64))
