"""WHU Building, buildings in aerial images of Christchurch: the layout it is published in, and its data module.

It is published as image tiles and label rasters, `{train,val,test}/{image,label}/*.tif`. Buildings are the 4-connected
parts of a label, so buildings that touch are one. Tiles without a building stay.

Source: Ji et al., "Fully Convolutional Networks for Multisource Building Extraction From an Open Aerial and Satellite
Imagery Data Set", IEEE TGRS 57 (2019); instances as in github.com/KyanChen/RSPrompter, which keeps the same layout
below `imgs/`.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.coco import CocoInstances
from distill.data.datasets.prepared import prepared_files
from distill.data.datasets.source import Item, Objects, Source, in_pairs, mask_object
from distill.data.images import BrokenImage, read_label, size_fault
from distill.data.listing import below, images_by_stem, subfolders
from distill.data.records import Problem
from distill.errors import UserError


class WHU(CocoInstances):
    """WHU Building as `distill data prepare whu` writes it: train, val and test.

    RSPrompter and RS4D choose their model on the test tiles; here it is chosen on val and scored on test.

    Args:
        root: The prepared data set.
        **kwargs: Everything that `CocoInstances` takes, except the paths.

    Raises:
        UserError: `root` was not prepared; and all cases of `CocoInstances`.
    """

    def __init__(self, root: str, **kwargs: Any) -> None:
        images, train, val, test = prepared_files("whu", root, "train", "val", "test")
        super().__init__(
            train_images=images,
            train_annotations=train,
            val_images=images,
            val_annotations=val,
            test_images=images,
            test_annotations=test,
            **kwargs,
        )


CLASSES = ("building",)
SPLITS = ("train", "val", "test")


def find(folder: Path, on_error: str) -> Source:
    """The tiles of the splits that are there.

    Raises:
        UserError: There is none; and all cases of `in_pairs`.
    """
    for base in subfolders(folder):
        images = {split: images_by_stem([below(base, f"{split}/image")]) for split in SPLITS}
        labels = {split: images_by_stem([below(base, f"{split}/label")]) for split in SPLITS}
        if not any(images[split] and labels[split] for split in SPLITS):
            continue
        items: list[Item] = []
        other_files: list[Path] = []
        skipped: list[Problem] = []
        for split in SPLITS:
            tiles = {stem: images[split][stem] for stem in sorted(images[split], key=_order)}
            stems, alone, problems = in_pairs(tiles, labels[split], "label", on_error)
            other_files += alone
            skipped += problems
            items += [
                Item(
                    name=f"{split}/{tiles[stem].name}",
                    image=tiles[stem],
                    image_id=number,
                    splits=(split,),
                    objects=_buildings(labels[split][stem]),
                    files=(labels[split][stem],),
                )
                for number, stem in enumerate(stems, start=len(items) + 1)
            ]
        present = [split for split in SPLITS if images[split]]
        return Source(f"label rasters, {', '.join(present)}", CLASSES, items, other_files, skipped)
    raise UserError(f"--source {str(folder)!r} holds no WHU Building: no {{train,val,test}}/{{image,label}}/*.tif")


def instances(label: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """The 4-connected parts of a raster (H, W), each as a mask (H, W), from top to bottom."""
    import cv2

    count, parts = cv2.connectedComponents(label.astype(np.uint8), connectivity=4)
    return [parts == number for number in range(1, count)]


def _buildings(path: Path) -> Objects:
    def objects(height: int, width: int) -> list[dict[str, Any]]:
        label = read_label(path)
        if fault := size_fault(f"label {str(path)!r}", label.shape, "its image is", (height, width)):
            raise BrokenImage(fault)
        return [mask_object(mask) for mask in instances(label)]

    return objects


def _order(stem: str) -> tuple[int, str]:
    """Sorts tiles by number, as they are named."""
    return (len(stem), stem) if stem.isdigit() else (99, stem)
