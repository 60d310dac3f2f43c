"""Probes of land-cover patches.

Axes: N patches, S side of a patch in pixels, H W pixels of an image file, K classes.
"""

from typing import Any

import torch
from torch import Tensor

from distill.data.class_table import IGNORE
from distill.data.images import BrokenImage, size_fault
from distill.data.label_pairs import Pair
from distill.data.semantic import Parts, SemanticFolder
from distill.errors import UserError
from distill.tasks.probes.base import ProbeBase, ProbeData, ProbeImages
from distill.tasks.probes.choice import choose


class PatchProbe(ProbeBase):
    """Probes of land cover: which class most of a patch has, and which a token has.

    Images are cut into patches of S x S pixels, side by side, at their own resolution; what remains at the right and
    the bottom is left out. A patch has the class of half of its pixels or more, and is left out where there is none;
    features are pooled over the pixels of that class.

    Args:
        root: The data set's folder; its layout is that of `distill.data.SemanticFolder`.
        classes: Value of each class in the masks by name, in label order: an index, or a colour [red, green, blue].
        ignore: Values that mean "not labelled".
        train: Folder or text file of the training images, or several.
        val: The same of the validation images.
        images: Name of the images' folders.
        masks: Name of the masks' folders.
        tokens: Whether tokens are probed.
        **kwargs: See `ProbeBase`. Each patch takes S * S * 5 bytes of memory.

    Raises:
        UserError: An argument is out of its range; on reading, a file is missing or broken, a class has no patch, or
            fewer training patches than `shots`.
    """

    default_name = "patches"
    unit = "patch"
    units = "patches"
    way_out = "list its value in `ignore` instead of `classes`, or make image_size smaller"

    def __init__(
        self,
        root: str,
        classes: dict[str, int | list[int]],
        ignore: list[int | list[int]] | None = None,
        train: Parts = "train",
        val: Parts = "val",
        images: str = "images",
        masks: str = "masks",
        tokens: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.files = SemanticFolder(root, classes, ignore, train, val, images=images, masks=masks)
        self.tokens = tokens

    def read(self) -> ProbeData:
        """Cuts the patches out of the images.

        Raises:
            UserError: A file is missing or broken.
        """
        names = self.files.class_names
        return ProbeData(self._patches("train"), self._patches("val"), names, names if self.tokens else [])

    def _patches(self, split: str) -> ProbeImages:
        """The chosen patches. All masks are read first, then the images of the chosen patches."""
        found = [
            (pair, place, label)
            for pair in self.files.find(split)
            for place, label in enumerate(self._classes(self._cut(self._labels(pair))))
        ]
        found = [candidate for candidate in found if candidate[2] != IGNORE]
        chosen = [found[place] for place in choose([label for _, _, label in found], self.limits[split])]
        places: dict[Pair, list[int]] = {}
        for pair, place, _ in chosen:
            places.setdefault(pair, []).append(place)
        pixels, pixel_labels = [], []
        for pair, of_image in places.items():
            image, labels = self.image(pair.image), self._labels(pair)
            if fault := size_fault(f"image {str(pair.image)!r}", image.shape[1:], "its mask is", labels.shape):
                raise UserError(f"probe {self.name!r}: {fault}; correct one of the files")
            pixels.append(self._cut(image)[of_image])
            pixel_labels.append(self._cut(labels)[of_image])
        if not chosen:
            raise UserError(
                f"probe {self.name!r}: no {split} image holds a patch of {self.image_size} px of one class; make "
                f"{self._key('image_size')} smaller"
            )
        labels_of = torch.tensor([label for _, _, label in chosen], dtype=torch.int64)
        cover = torch.cat(pixel_labels)
        regions = cover == labels_of[:, None, None]
        return ProbeImages(torch.cat(pixels), regions, labels_of, cover if self.tokens else None)

    def _labels(self, pair: Pair) -> Tensor:
        try:
            return self.files.table.read(pair.mask)
        except BrokenImage as error:
            raise UserError(f"probe {self.name!r}: {error}") from error

    def _cut(self, pixels: Tensor) -> Tensor:
        """Patches (N, ..., S, S) of pixels (..., H, W), row by row."""
        size = self.image_size
        rows, columns = (side // size for side in pixels.shape[-2:])
        parts = pixels[..., : rows * size, : columns * size].unflatten(-2, (rows, size)).unflatten(-1, (columns, size))
        return parts.movedim((-4, -2), (0, 1)).flatten(0, 1)

    def _classes(self, patches: Tensor) -> list[int]:
        """The class of half of the pixels of a patch or more, else `IGNORE`, of patches (N, S, S)."""
        counts = torch.stack([(patches == label).sum((1, 2)) for label in range(len(self.files.class_names))], dim=1)
        most, label = counts.max(dim=1)
        return [int(number) for number in torch.where(2 * most >= self.image_size**2, label, IGNORE)]
