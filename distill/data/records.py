"""Rules for the records of a COCO file, shared by reading, converting and reports.

Axes: H W pixels of the image file. Boxes are [x, y, width, height].
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from distill.data.masks import box_polygons, decode_counts, extent_of

REQUIRED = {
    "categories": ("id", "name"),
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("id", "image_id", "category_id"),
}

# Whole numbers, which tools whose only number is a float write as 64.0.
_WHOLE = {
    "categories": ("id",),
    "images": ("id", "height", "width"),
    "annotations": ("id", "image_id", "category_id", "iscrowd"),
}

# Pillow refuses to decode more pixels, and a mask of that size would fill the memory.
LARGEST_IMAGE = 2 * (Image.MAX_IMAGE_PIXELS or 1 << 27)
LARGEST_SCENE = (1 << 32) - 1  # of an image that is read by windows: pycocotools counts pixels in 32 bits

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


def tidied(section: str, record: Any) -> Any:
    """A record with harmless variants of labelling tools normalised; anything else stays as it is.

    Whole numbers may be written as 64.0. Of annotations, `area`, `bbox` and `iscrowd` may be null, `iscrowd` true or
    false; parts of a polygon of fewer than three points or without area are dropped beside a sound one, as Detectron2
    does; and a region to ignore that has only a box is that rectangle.
    """
    if not isinstance(record, dict):
        return record
    tidy = dict(record)
    for key in _WHOLE[section]:
        if key in tidy:
            tidy[key] = _whole(tidy[key])
    if section != "annotations":
        return tidy
    for key in ("area", "bbox", "iscrowd", "segmentation"):
        if key in tidy and tidy[key] in (None, []):
            del tidy[key]
    if isinstance(tidy.get("iscrowd"), bool):
        tidy["iscrowd"] = int(tidy["iscrowd"])
    if isinstance(parts := tidy.get("segmentation"), list):
        sound = [part for part in parts if not _is_stray(part)]
        tidy["segmentation"] = sound or parts
    elif isinstance(rle := tidy.get("segmentation"), dict):
        tidy["segmentation"] = {key: _whole(value) for key, value in rle.items()}
    elif tidy.get("iscrowd") == 1 and "segmentation" not in tidy and _is_box(tidy.get("bbox")):
        x, y, width, height = tidy["bbox"]
        tidy["segmentation"] = box_polygons(x, y, x + width, y + height)
    return tidy


def usable_annotation(
    position: int, record: Any, sizes: Sizes, categories: Collection[int], wanted: Collection[int]
) -> dict[str, Any] | Problem:
    """An annotation as training, scoring and reports take it, or what is wrong with it.

    Args:
        position: Where it stands in the file.
        record: As it is in the file.
        sizes: Of the file's images.
        categories: Of the file.
        wanted: Those whose objects matter; of others the geometry is not looked at.
    """
    record = tidied("annotations", record)
    problem = missing_keys("annotations", position, record) or reference_problem(record, sizes, categories)
    if problem is None and record["category_id"] in wanted:
        return with_geometry(record, sizes)
    return problem or record


def parts_dropped(published: Mapping[str, Any], record: Mapping[str, Any]) -> int:
    """How many parts of its polygon an annotation lost when it was tidied."""
    before, after = published.get("segmentation"), record["segmentation"]
    return len(before) - len(after) if isinstance(before, list) and before and isinstance(after, list) else 0


def with_geometry(record: dict[str, Any], sizes: Sizes) -> dict[str, Any] | Problem:
    """A tidied annotation, with the box of its mask where it has none; or what is wrong with its geometry."""
    if problem := geometry_problem(record, sizes):
        return problem
    if "bbox" in record:
        return record
    box = extent_of(record["segmentation"], *sizes[record["image_id"]])
    if not box[2]:
        return Problem("box", f"annotation {record['id']!r}", "has no box, and an outline that covers no pixel")
    return record | {"bbox": box}


def category_problem(record: Mapping[str, Any]) -> Problem | None:
    """The fault of a category; None if there is none."""
    subject = f"category {record['id']!r}"
    if not _is_id(record["id"]):
        return Problem("category id", subject, "has an id that is no whole number (write it without quotes)")
    if not isinstance(record["name"], str) or not record["name"].strip():
        return Problem("category name", subject, f"has the name {record['name']!r}; it must be a text")
    return None


def image_problem(record: Mapping[str, Any], largest: int = LARGEST_IMAGE) -> Problem | None:
    """The fault of an image record; None if there is none. The file itself is not read.

    Args:
        record: As it is in the file, tidied.
        largest: Pixels of the largest image that can be read.
    """
    subject = f"image {record['id']!r}"
    if not _is_id(record["id"]):
        return Problem("image id", subject, "has an id that is no whole number (write it without quotes)")
    if not isinstance(record["file_name"], str) or not record["file_name"]:
        return Problem("file name", subject, f"has the file name {record['file_name']!r}; it must be a text")
    if "\0" in record["file_name"] or len(record["file_name"].encode("utf-8", "replace")) > _LONGEST_NAME:
        return Problem("file name", subject, f"has the file name {_short(record['file_name'])}, which no file can have")
    height, width = record["height"], record["width"]
    if not _is_id(height) or not _is_id(width) or height < 1 or width < 1:
        return Problem(
            "image size",
            subject,
            f"has the size {width!r}x{height!r}; it must be two positive numbers without a fraction",
        )
    if height * width > largest:
        fault = "too large to decode at once; cut it into tiles first, with `distill data tile`"
        if largest == LARGEST_SCENE:
            fault = "too large for the run lengths of COCO; cut it in parts first"
        return Problem("image size", subject, f"is {width}x{height}, {fault}")
    return None


def reference_problem(record: Mapping[str, Any], sizes: Sizes, categories: Collection[int]) -> Problem | None:
    """An annotation whose id is none, or that points to an image or a category that is not in the file."""
    subject = f"annotation {record['id']!r}"
    if not _is_id(record["id"]):
        return Problem("annotation id", subject, "has an id that is no whole number (write it without quotes)")
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
    kind, fault = "box", _box_fault(record["bbox"], height, width) if "bbox" in record else None
    if fault is None:
        kind, fault = _segmentation_fault(record, height, width)
    if fault is None and "area" in record and not (is_number(record["area"]) and record["area"] >= 0):
        kind, fault = "area", f"has the area {record['area']!r}; it must be a number, 0 or more, or be left out"
    if fault is None and record.get("iscrowd", 0) not in (0, 1):
        kind, fault = "crowd flag", f"has iscrowd {record['iscrowd']!r}; it must be 0 or 1, without quotes"
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
    if not _is_box(box):
        return f"has the box {_short(box)}; it must be four numbers [x, y, width, height]"
    x, y, box_width, box_height = box
    if box_width <= 0 or box_height <= 0:
        return f"has the box {_short(box)}; its width and height must be positive"
    if x >= width or y >= height or x + box_width <= 0 or y + box_height <= 0:
        return f"has the box {_short(box)}, which lies outside its image of {width}x{height}"
    return None


def _segmentation_fault(record: Mapping[str, Any], height: int, width: int) -> tuple[str, str | None]:
    if "segmentation" not in record:
        return "no outline", _unusable("it has only a box" if "bbox" in record else "it has neither outline nor box")
    shape = record["segmentation"]
    if isinstance(shape, list):
        return "polygon", _polygon_fault(shape, height, width)
    if isinstance(shape, dict) and {"size", "counts"} <= shape.keys():
        return "RLE", _rle_fault(shape, height, width)
    return "segmentation", _unusable("polygons or a run-length encoding")


def _whole(value: Any) -> Any:
    """A number, or the numbers of a list, without the point where it is a whole one; anything else as it is."""
    if isinstance(value, list):
        return [_whole(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_stray(part: Any) -> bool:
    """Whether a part of a polygon encloses nothing: fewer than three points, half a point, or no area."""
    if not isinstance(part, list) or not all(map(is_number, part)):
        return False
    return len(part) < 6 or len(part) % 2 == 1 or _area(part) == 0


def _area(polygon: list[float]) -> float:
    points = np.array(polygon, np.float64).reshape(-1, 2)
    following = np.roll(points, -1, axis=0)
    return abs(float((points[:, 0] * following[:, 1] - points[:, 1] * following[:, 0]).sum())) / 2


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(map(is_number, box))


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
    for polygon in polygons:
        points = np.array(polygon, np.float64).reshape(-1, 2)
        if (points < (-width, -height)).any() or (points > (2 * width, 2 * height)).any():
            return f"has a polygon far outside its image of {width}x{height}"
    return "has polygons without area" if not any(map(_area, polygons)) else None


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
