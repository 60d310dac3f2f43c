"""NWPU VHR-10, ten classes of objects in aerial images: the layouts it is published in, and its data module.

It is published as COCO files with masks, and originally as text files with boxes. The original has no split and neither
has the COCO file of all 650 images, so a fifth of the images is held out here by a hash of the name; images that show
nearly the same go to one side together. The 150 images of the "negative image set" are left out, as in all published
splits.

Source: images by Cheng et al., "Multi-class geospatial object detection and geographic image classification based on
collection of part detectors", ISPRS Journal 98 (2014), and its readme; masks by Su et al., "Object Detection and
Instance Segmentation in Remote Sensing Imagery Based on Precise Mask R-CNN", IGARSS 2019, from
github.com/chaozhong2010/VHR-10_dataset_coco; split files from github.com/KyanChen/RSPrompter.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from distill.data.coco import CocoInstances
from distill.data.datasets.prepared import prepared_files
from distill.data.datasets.source import Item, Objects, Source, coco_items, in_pairs
from distill.data.duplicates import Looks, groups_of, near_identical, thumbnail
from distill.data.images import BrokenImage, read_image
from distill.data.listing import below, files_by_stem, images_by_stem, subfolders
from distill.data.masks import box_polygons
from distill.errors import UserError


class NWPU(CocoInstances):
    """NWPU VHR-10 in the layout `<root>/images/*.jpg`, `<root>/annotations/{train,val}.json`.

    The published boxes reach one pixel further right and down than the polygons. Read as exclusive coordinates, as
    everywhere here, they enclose the outline's pixels, so nothing is converted: neither for evaluation, where scores
    must compare with published ones, nor for training, so that the detector learns the convention it is scored in.
    (Boxes derived from the true masks would reach a box AP of only 0.97.)

    One published annotation has the id 0, which pycocotools cannot match; `ground_truth` counts ids anew.

    Args:
        root: The data set's folder.
        **kwargs: Everything that `CocoInstances` takes, except the paths.

    Raises:
        UserError: `root` does not have that layout; and all cases of `CocoInstances`.
    """

    def __init__(self, root: str, **kwargs: Any) -> None:
        images, train, val = prepared_files("nwpu", root, "train", "val")
        super().__init__(
            train_images=images,
            train_annotations=train,
            val_images=images,
            val_annotations=val,
            test_images=None,
            test_annotations=None,
            **kwargs,
        )


CLASSES = (
    "airplane", "ship", "storage_tank", "baseball_diamond", "tennis_court", "basketball_court", "ground_track_field",
    "harbor", "bridge", "vehicle",
)  # fmt: skip

_HELD_OUT = 0.2
_COCO_FILES = (
    {"train": "annotations/NWPU_instances_train.json", "val": "annotations/NWPU_instances_val.json"},
    {"train": "annotations/train.json", "val": "annotations/val.json"},
    {"all": "annotations.json"},
    {"all": "annotations/annotations.json"},
)
_LINE = re.compile(r"\(\s*(\d+)\s*,\s*(\d+)\s*\)\s*,\s*\(\s*(\d+)\s*,\s*(\d+)\s*\)\s*,\s*(\d+)")


def find(folder: Path, on_error: str) -> Source:
    """COCO files if they are there, else the text files.

    Raises:
        UserError: Neither is there; and all cases of `coco_items` and `in_pairs`.
    """
    for base in subfolders(folder):
        folders = [below(base, name) for name in ("positive image set", "images", "imgs")]
        images = images_by_stem(folders)
        for names in _COCO_FILES:
            files = {split: below(base, name) for split, name in names.items()}
            if all(path.is_file() for path in files.values()):
                class_names, items, skipped = coco_items(files, images, folders[0], on_error)
                items = _split(items) if "all" in files else items
                return Source(f"COCO, {', '.join(names)}", class_names, items, list(files.values()), skipped)
        texts = files_by_stem([below(base, "ground truth")], (".txt",))
        if texts:
            stems, alone, skipped = in_pairs(images, texts, "text", on_error)
            items = [
                Item(
                    name=images[stem].name,
                    image=images[stem],
                    image_id=image_id,
                    splits=("all",),
                    objects=_boxes(texts[stem]),
                    files=(texts[stem],),
                )
                for stem, image_id in _image_ids(stems).items()
            ]
            layout = "text files: boxes only, so masks are rectangles"
            return Source(layout, CLASSES, _split(items), alone, skipped)
    raise UserError(
        f"--source {str(folder)!r} holds no NWPU VHR-10: neither annotations/{{train,val}}.json, nor annotations.json, "
        "nor 'ground truth'/*.txt"
    )


def read_boxes(text: str) -> list[dict[str, Any]]:
    """Objects of one text file, a line each: `(x1,y1),(x2,y2),class` with the class from 1.

    Raises:
        ValueError: A line is not of that form, the class is unknown, or there is no line.
    """
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"line {line!r} is not (x1,y1),(x2,y2),class")
        x1, y1, x2, y2, category = map(int, match.groups())
        if not 1 <= category <= len(CLASSES):
            raise ValueError(f"class {category} in line {line!r}; there are 1 to {len(CLASSES)}")
        box = [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]
        found.append({"category_id": category, "bbox": box, "segmentation": box_polygons(x1, y1, x2, y2)})
    if not found:
        raise ValueError("it has no line, but every image of the positive set shows an object")
    return found


def _image_ids(stems: Sequence[str]) -> dict[str, int]:
    """An id for each name, sorted: its number less one, as in the COCO files; counted if names are no such numbers."""
    ordered = sorted(stems)
    numbers = [int(stem) - 1 for stem in ordered if stem.isdecimal()]
    return dict(zip(ordered, numbers if len(set(numbers)) == len(ordered) else range(len(ordered)), strict=True))


def _boxes(path: Path) -> Objects:
    def objects(height: int, width: int) -> list[dict[str, Any]]:
        try:
            return read_boxes(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise BrokenImage(f"ground truth {str(path)!r} cannot be read ({error})") from error

    return objects


def _split(items: Sequence[Item]) -> list[Item]:
    """The items with their split: one side for each group of near-identical images, by its first name's hash."""
    looks = Looks.from_thumbnails([_look(item.image) for item in items])
    groups = groups_of(near_identical(looks), len(items))
    return [replace(item, splits=(_side(items[first].name),)) for item, first in zip(items, groups, strict=True)]


def _side(name: str) -> str:
    digest = hashlib.blake2b(Path(name).stem.encode(), digest_size=6).digest()
    return "val" if int.from_bytes(digest, "big") / 2**48 < _HELD_OUT else "train"


def _look(path: Path) -> NDArray[np.float32]:
    """The thumbnail, so that one image at a time is in memory; a blank one, which is like nothing, if it is broken."""
    try:
        return thumbnail(read_image(path))
    except BrokenImage:
        return thumbnail(torch.zeros(3, 1, 1, dtype=torch.uint8))
