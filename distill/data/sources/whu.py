"""WHU Building as published: image tiles and label rasters, `{train,val,test}/{image,label}/*.tif`.

Buildings are the 4-connected parts of a label, so buildings that touch are one. Tiles without a building stay.

Source: Ji et al., "Fully Convolutional Networks for Multisource Building Extraction From an Open Aerial and Satellite
Imagery Data Set", IEEE TGRS 57 (2019); instances as in github.com/KyanChen/RSPrompter, which keeps the same layout
below `imgs/`.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.images import BrokenImage, read_label
from distill.data.sources.source import Item, Objects, Source, images_by_stem, mask_object, subfolders
from distill.errors import UserError

CLASSES = ("building",)
SPLITS = ("train", "val", "test")


def find(folder: Path, on_error: str) -> Source:
    """The tiles of the splits that are there.

    Raises:
        UserError: There is none.
    """
    for base in subfolders(folder):
        splits = [split for split in SPLITS if (base / split / "image").is_dir() and (base / split / "label").is_dir()]
        if not splits:
            continue
        found = [(split, path) for split in splits for path in _in_order(base / split / "image")]
        labels = {split: images_by_stem([base / split / "label"]) for split in splits}
        items = [
            Item(
                name=f"{split}/{path.name}",
                image=path,
                image_id=number,
                splits=(split,),
                objects=_buildings(labels[split].get(path.stem, base / split / "label" / path.name)),
                files=(labels[split][path.stem],) if path.stem in labels[split] else (),
            )
            for number, (split, path) in enumerate(found, start=1)
        ]
        if items:
            return Source(f"label rasters, {', '.join(splits)}", CLASSES, items)
    raise UserError(f"--source {str(folder)!r} holds no WHU Building: no {{train,val,test}}/{{image,label}}/*.tif")


def instances(label: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """The 4-connected parts of a raster (H, W), each as a mask (H, W), from top to bottom."""
    import cv2

    count, parts = cv2.connectedComponents(label.astype(np.uint8), connectivity=4)
    return [parts == number for number in range(1, count)]


def _buildings(path: Path) -> Objects:
    def objects(height: int, width: int) -> list[dict[str, Any]]:
        label = read_label(path)
        if label.shape != (height, width):
            raise BrokenImage(
                f"label {str(path)!r} is {label.shape[1]}x{label.shape[0]}, but its image is {width}x{height}"
            )
        return [mask_object(mask) for mask in instances(label)]

    return objects


def _in_order(folder: Path) -> list[Path]:
    """The tiles by number, as they are named."""
    return sorted(
        images_by_stem([folder]).values(),
        key=lambda path: (len(path.stem), path.stem) if path.stem.isdigit() else (99, path.stem),
    )
