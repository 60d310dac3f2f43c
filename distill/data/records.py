"""What makes the records of a COCO file usable: every rule once, for reading, for converting and for reports.

Axes: H W pixels of the image file. Boxes are [x, y, width, height].
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from distill.data.masks import decode_counts

REQUIRED = {
    "categories": ("id", "name"),
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("id", "image_id", "category_id", "bbox", "segmentation"),
}

# Pillow refuses to decode more pixels, and a mask of that size would fill the memory.
LARGEST_IMAGE = 2 * (Image.MAX_IMAGE_PIXELS or 1 << 27)

_LONGEST_NAME = 4096  # bytes of a path on Linux

Sizes = Mapping[int, tuple[int, int]]  # (height, width) by image id


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one record.

    Args:
        kind: The rule that is broken, in two or three words; problems are counted by it.
        subject: The record, for example "annotation 7"; empty where it has no usable id.
        fault: What is wrong with it, and what would be right.
    """

    kind: str
    subject: str
    fault: str

    def within(self, path: object) -> str:
        """The line for a user, with the file that holds the record."""
        if not self.subject:
            return f"annotations {str(path)!r}: {self.fault}"
        return f"{self.subject} in {str(path)!r} {self.fault}"

    def __str__(self) -> str:
        return f"{self.subject} {self.fault}".strip()


def missing_keys(section: str, position: int, record: Any) -> Problem | None:
    """A record that is no mapping or lacks a required key."""
    missing = [key for key in REQUIRED[section] if not isinstance(record, dict) or key not in record]
    if not missing:
        return None
    return Problem("missing key", "", f"entry {position} of {section!r} lacks {', '.join(map(repr, missing))}")


def category_problem(record: Mapping[str, Any]) -> Problem | None:
    """What is wrong with a category, if anything."""
    subject = f"category {record['id']!r}"
    if not _is_id(record["id"]):
        return Problem("category id", subject, "has an id that is no whole number")
    if not isinstance(record["name"], str) or not record["name"].strip():
        return Problem("category name", subject, f"has the name {record['name']!r}; it must be a text")
    return None


def image_problem(record: Mapping[str, Any]) -> Problem | None:
    """What is wrong with an image record, if anything; the file itself is not looked at."""
    subject = f"image {record['id']!r}"
    if not _is_id(record["id"]):
        return Problem("image id", subject, "has an id that is no whole number")
    if not isinstance(record["file_name"], str) or not record["file_name"]:
        return Problem("file name", subject, f"has the file name {record['file_name']!r}; it must be a text")
    if "\0" in record["file_name"] or len(record["file_name"].encode("utf-8", "replace")) > _LONGEST_NAME:
        return Problem("file name", subject, f"has the file name {_short(record['file_name'])}, which no file can have")
    height, width = record["height"], record["width"]
    if not _is_id(height) or not _is_id(width) or height < 1 or width < 1:
        return Problem("image size", subject, f"has the size {width!r}x{height!r}; it must be two positive numbers")
    if height * width > LARGEST_IMAGE:
        return Problem(
            "image size", subject, f"is {width}x{height}, too large to decode at once; cut it into tiles first"
        )
    return None


def reference_problem(record: Mapping[str, Any], sizes: Sizes, categories: Collection[int]) -> Problem | None:
    """An annotation whose id is none, or that points to an image or a category that is not in the file."""
    subject = f"annotation {record['id']!r}"
    if not _is_id(record["id"]):
        return Problem("annotation id", subject, "has an id that is no whole number")
    if not _is_id(record["image_id"]) or record["image_id"] not in sizes:
        return Problem(
            "dangling image", subject, f"belongs to image {record['image_id']!r}, which the file does not list"
        )
    if not _is_id(record["category_id"]) or record["category_id"] not in categories:
        return Problem(
            "dangling category",
            subject,
            f"has category {record['category_id']!r}; the file defines {sorted(categories)}",
        )
    return None


def geometry_problem(record: Mapping[str, Any], sizes: Sizes) -> Problem | None:
    """An annotation whose box, segmentation, area or crowd flag cannot be used.

    Parts that stick out of the image are no fault, data sets have them; an object that is nowhere inside is one. So are
    outlines far outside, because rasterising follows every pixel of the outline.
    """
    subject = f"annotation {record['id']!r}"
    height, width = sizes[record["image_id"]]
    kind, fault = "box", _box_fault(record["bbox"], height, width)
    if fault is None:
        kind, fault = _segmentation_fault(record["segmentation"], height, width)
    if fault is None and "area" in record and not (is_number(record["area"]) and record["area"] >= 0):
        kind, fault = "area", f"has the area {record['area']!r}; it must be a number, 0 or more, or be left out"
    if fault is None and record.get("iscrowd", 0) not in (0, 1):
        kind, fault = "crowd flag", f"has iscrowd {record['iscrowd']!r}; it must be 0 or 1"
    return None if fault is None else Problem(kind, subject, fault)


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the floats
        return False


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _box_fault(box: Any, height: int, width: int) -> str | None:
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        return f"has the box {_short(box)}; it must be [x, y, width, height]"
    x, y, box_width, box_height = box
    if box_width <= 0 or box_height <= 0:
        return f"has the box {_short(box)}; its width and height must be positive"
    if x >= width or y >= height or x + box_width <= 0 or y + box_height <= 0:
        return f"has the box {_short(box)}, which lies outside its image of {width}x{height}"
    return None


def _segmentation_fault(shape: Any, height: int, width: int) -> tuple[str, str | None]:
    if isinstance(shape, list):
        return "polygon", _polygon_fault(shape, height, width)
    if isinstance(shape, dict) and {"size", "counts"} <= shape.keys():
        return "RLE", _rle_fault(shape, height, width)
    return "segmentation", _unusable("polygons or a run-length encoding")


def _unusable(what: str) -> str:
    return (
        f"has no usable segmentation ({what}); it must be polygons [[x1, y1, x2, y2, x3, y3, ...], ...] or a "
        "run-length encoding {'size', 'counts'}"
    )


def _polygon_fault(polygons: list[Any], height: int, width: int) -> str | None:
    if not polygons or not all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in polygons):
        return _unusable("a polygon needs three points or more, two numbers each")
    if not all(is_number(number) for polygon in polygons for number in polygon):
        return _unusable("a coordinate is no number")
    area = 0.0
    for polygon in polygons:
        points = np.array(polygon, np.float64).reshape(-1, 2)
        if (points < (-width, -height)).any() or (points > (2 * width, 2 * height)).any():
            return f"has a polygon far outside its image of {width}x{height}"
        following = np.roll(points, -1, axis=0)
        area += abs(float((points[:, 0] * following[:, 1] - points[:, 1] * following[:, 0]).sum())) / 2
    return "has polygons without area" if area == 0 else None


def _rle_fault(rle: Mapping[str, Any], height: int, width: int) -> str | None:
    if rle["size"] != [height, width]:
        return f"has an RLE of size {_short(rle['size'])}; its image is [{height}, {width}]"
    counts = rle["counts"]
    if isinstance(counts, str):
        try:
            runs = decode_counts(counts).tolist()
        except ValueError:
            return _unusable("the RLE's counts are damaged")
    elif isinstance(counts, list) and all(map(_is_id, counts)):
        runs = counts
    else:
        return _unusable("the RLE's counts are neither a text nor whole numbers")
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        return f"has an RLE whose runs do not add up to the {height * width} pixels of its image"
    return "has an RLE without a pixel" if sum(runs[1::2]) == 0 else None


def _short(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
