"""NWPU VHR-10 as published: COCO files with masks, or the original text files with boxes.

The original has no split and neither has the COCO file of all 650 images, so a fifth of the images is held out here by
a hash of the name; images that show nearly the same go to one side together. The 150 images of the "negative image set"
are left out, as in all published splits.

Source: Cheng et al., "Multi-class geospatial object detection and geographic image classification based on collection
of part detectors", ISPRS Journal 98 (2014), and its readme; masks from github.com/chaozhong2010/VHR-10_dataset_coco,
split files from github.com/KyanChen/RSPrompter.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.data.duplicates import Looks, near_identical
from distill.data.images import BrokenImage, read_image
from distill.data.sources.source import Item, Objects, Source, coco_items, images_by_stem, rectangle, subfolders
from distill.errors import UserError

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
        UserError: Neither is there.
    """
    for base in subfolders(folder):
        folders = [base / name for name in ("positive image set", "images", "imgs")]
        images = images_by_stem(folders)
        for names in _COCO_FILES:
            files = {split: base / name for split, name in names.items()}
            if all(path.is_file() for path in files.values()):
                class_names, items, skipped = coco_items(files, images, folders[0], on_error)
                items = _split(items) if "all" in files else items
                return Source(f"COCO, {', '.join(names)}", class_names, items, list(files.values()), skipped)
        texts = sorted((base / "ground truth").glob("*.txt"))
        if texts:
            items = [
                Item(
                    name=images[path.stem].name if path.stem in images else f"{path.stem}.jpg",
                    image=images.get(path.stem, folders[0] / f"{path.stem}.jpg"),
                    image_id=number,
                    splits=("all",),
                    objects=_boxes(path),
                    files=(path,),
                )
                for number, path in enumerate(texts)  # from 0, as the COCO files count
            ]
            return Source("text files: boxes only, so masks are rectangles", CLASSES, _split(items))
    raise UserError(
        f"--source {str(folder)!r} holds no NWPU VHR-10: neither annotations/{{train,val}}.json, nor annotations.json, "
        "nor 'ground truth'/*.txt"
    )


def read_boxes(text: str) -> list[dict[str, Any]]:
    """Objects of one text file, a line each: `(x1,y1),(x2,y2),class` with the class from 1.

    Raises:
        ValueError: A line is not of that form, or the class is unknown.
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
        found.append({"category_id": category, "bbox": box, "segmentation": rectangle(x1, y1, x2, y2)})
    return found


def _boxes(path: Path) -> Objects:
    def objects(height: int, width: int) -> list[dict[str, Any]]:
        try:
            return read_boxes(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise BrokenImage(f"ground truth {str(path)!r} cannot be read ({error})") from error

    return objects


def _split(items: Sequence[Item]) -> list[Item]:
    """The items with their split: one side for each group of near-identical images, by its first name's hash."""
    looks = Looks.of([_pixels(item.image) for item in items])
    leader = list(range(len(items)))
    for pair in near_identical(looks):
        first, second = sorted((leader[pair.first], leader[pair.second]))
        leader = [first if number == second else number for number in leader]
    return [replace(item, splits=(_side(items[number].name),)) for item, number in zip(items, leader, strict=True)]


def _side(name: str) -> str:
    digest = hashlib.blake2b(Path(name).stem.encode(), digest_size=6).digest()
    return "val" if int.from_bytes(digest, "big") / 2**48 < _HELD_OUT else "train"


def _pixels(path: Path) -> Any:
    try:
        return read_image(path)
    except BrokenImage:
        return None
