"""A COCO instance annotation file: read, checked, reduced to the wanted classes, handed out as evaluation ground truth.

Axes: H W pixels of the image file. Boxes in the file are [x, y, width, height].
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError, unknown_name

_REQUIRED = {
    "categories": ("id", "name"),
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("id", "image_id", "category_id", "bbox", "segmentation"),
}


class CocoAnnotations:
    """The images and objects of one annotation file.

    Class names come from the file and labels follow from them, so a mismatch between code and file cannot silently
    leave a detector without ground truth: it is an error here.

    Args:
        path: The JSON file.
        classes: Names to keep, in label order; without it all of the file's categories, ordered by id.

    Attributes:
        class_names: Names by label.
        category_ids: The file's category id by label.
        images: The file's image records, in file order.

    Raises:
        UserError: The file is missing, damaged or not COCO, refers to images or categories it does not define, lacks a
            declared class, or holds no object of the wanted classes.
    """

    def __init__(self, path: str | Path, classes: Sequence[str] | None = None) -> None:
        self.path = Path(path)
        content = _read(self.path)
        ids = {str(category["name"]): int(category["id"]) for category in content["categories"]}
        if len(ids) != len(content["categories"]):
            raise UserError(f"annotations {str(path)!r} name a category twice; category names must be unique")
        self.class_names = list(classes) if classes is not None else sorted(ids, key=lambda name: ids[name])
        for name in self.class_names:
            if name not in ids:
                raise unknown_name(f"class in {str(path)!r}", name, ids)
        self.category_ids = [ids[name] for name in self.class_names]
        self.images: list[dict[str, Any]] = content["images"]
        self._content = content
        self._objects = self._by_image(content, set(ids.values()))
        if not any(self._objects.values()):
            raise UserError(
                f"annotations {str(path)!r} hold no objects of the classes {', '.join(self.class_names)}, so there is "
                "nothing to learn or to score; check the file and `classes`"
            )

    def objects(self, image_id: int) -> list[dict[str, Any]]:
        """The annotation records of an image, each with its `label`."""
        return self._objects.get(image_id, [])

    def empty_classes(self, image_ids: Iterable[int]) -> list[str]:
        """Names of classes without an object in these images."""
        found = {record["label"] for image_id in image_ids for record in self.objects(image_id)}
        return [name for label, name in enumerate(self.class_names) if label not in found]

    def ground_truth(self, image_ids: Iterable[int]) -> dict[str, Any]:
        """A COCO dictionary of these images and the wanted classes, for evaluation.

        Boxes, areas and segmentations are as published, so that scores compare. Categories come in label order.
        Annotation ids are counted anew from 1, because pycocotools' matching reads a ground-truth id of 0 as
        "unmatched" and loses that object.
        """
        wanted = set(image_ids)
        images = [image for image in self.images if image["id"] in wanted]
        records = [record for image in images for record in self.objects(image["id"])]
        annotations = [
            {key: value for key, value in record.items() if key != "label"} | {"id": number}
            for number, record in enumerate(records, start=1)
        ]
        sizes = {image["id"]: (image["height"], image["width"]) for image in images}
        for record in annotations:
            record.setdefault("iscrowd", 0)
            if "area" not in record:
                record["area"] = float(decode_mask(record["segmentation"], *sizes[record["image_id"]]).sum())
        by_id = {category["id"]: category for category in self._content["categories"]}
        return {
            "info": self._content.get("info", {}),
            "licenses": self._content.get("licenses", []),
            "categories": [by_id[category_id] for category_id in self.category_ids],
            "images": images,
            "annotations": annotations,
        }

    def _by_image(self, content: dict[str, Any], known_categories: set[int]) -> dict[int, list[dict[str, Any]]]:
        image_ids = {image["id"] for image in content["images"]}
        if len(image_ids) != len(content["images"]):
            raise UserError(f"annotations {str(self.path)!r} use an image id twice; image ids must be unique")
        labels = {category_id: label for label, category_id in enumerate(self.category_ids)}
        objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for record in content["annotations"]:
            where = f"annotation {record['id']} in {str(self.path)!r}"
            if record["image_id"] not in image_ids:
                raise UserError(f"{where} belongs to image {record['image_id']}, which the file does not list")
            if record["category_id"] not in known_categories:
                raise UserError(
                    f"{where} has category {record['category_id']}; the file defines {sorted(known_categories)}"
                )
            if record["category_id"] in labels:
                _check_geometry(record, where)
                objects[record["image_id"]].append({**record, "label": labels[record["category_id"]]})
        return dict(objects)


def decode_mask(segmentation: Any, height: int, width: int) -> NDArray[np.uint8]:
    """Rasterises a COCO segmentation: a list of polygons, or a run-length encoding with counts as list or as text.

    Returns:
        0 and 1 of shape (H, W).
    """
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        rle = coco_mask.frPyObjects(segmentation, height, width)
    else:
        rle = segmentation
    return coco_mask.decode(rle)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"annotations {str(path)!r} do not exist; give the path of a COCO instance annotation file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"annotations {str(path)!r} are not valid JSON ({error}); copy or download them again"
        ) from error
    for section, keys in _REQUIRED.items():
        records = content.get(section) if isinstance(content, dict) else None
        if not isinstance(records, list):
            raise UserError(
                f"annotations {str(path)!r} have no list {section!r}; a COCO file has {', '.join(_REQUIRED)}"
            )
        for position, record in enumerate(records):
            missing = [key for key in keys if not isinstance(record, dict) or key not in record]
            if missing:
                raise UserError(
                    f"annotations {str(path)!r}: entry {position} of {section!r} lacks {', '.join(map(repr, missing))}"
                )
    return content


def _check_geometry(record: dict[str, Any], where: str) -> None:
    box, shape = record["bbox"], record["segmentation"]
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(number, int | float) for number in box):
        raise UserError(f"{where} has the box {box!r}; it must be [x, y, width, height]")
    if isinstance(shape, list):
        valid = bool(shape) and all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in shape)
    else:
        valid = isinstance(shape, dict) and {"size", "counts"} <= shape.keys()
    if not valid:
        raise UserError(
            f"{where} has no usable segmentation; it must be polygons [[x1, y1, x2, y2, x3, y3, ...], ...] or a "
            "run-length encoding {'size', 'counts'}"
        )
