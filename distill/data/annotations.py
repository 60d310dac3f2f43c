"""A COCO instance annotation file: read, checked, reduced to the wanted classes, handed out as evaluation ground truth.

Axes: H W pixels of the image file. Boxes in the file are [x, y, width, height].
"""

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from distill.data.broken import POLICIES
from distill.data.masks import area_of
from distill.data.records import (
    LARGEST_IMAGE,
    REQUIRED,
    Problem,
    category_problem,
    image_problem,
    missing_keys,
    parts_dropped,
    tidied,
    usable_annotation,
)
from distill.errors import UserError, unknown_name

logger = logging.getLogger(__name__)

_UNIQUE = (
    ("categories", "id", "use a category id", "give each category an id of its own"),
    ("categories", "name", "name a category", "rename one of them, or delete one and give its objects the other's id"),
    ("images", "id", "use an image id", "give each image an id of its own"),
    ("images", "file_name", "list an image file", "delete one record and give its objects the other's image_id"),
)


class CocoAnnotations:
    """The images and objects of one annotation file.

    Class names come from the file and labels follow from them, so a mismatch between code and file cannot silently
    leave a detector without ground truth: it is an error here.

    Args:
        path: The JSON file.
        classes: Names to keep, in label order; without it all of the file's categories, ordered by id.
        on_error: "raise" stops if an object is unusable; "skip" leaves such objects out and says how many. Broken
            categories and image records always stop, because the file's meaning is unclear without them.
        quiet: Whether the caller reports what was left out.
        scored: Whether scores are taken on the file, where no object may be left out whatever `on_error` of the recipe
            says; an error then names what can be done there.
        largest: Pixels of the largest image that the caller can read.

    Attributes:
        class_names: Names by label.
        category_ids: The file's category id by label.
        images: The file's image records, in file order.
        problems: What was wrong with the objects left out.
        flawed: Of each image that lost an object, by its id, what was wrong with the first.

    Raises:
        UserError: The file is missing, damaged or not COCO, an object is unusable (under "raise"; see
            `distill.data.records`), a declared class is missing, or no object of the wanted classes is left.
    """

    def __init__(
        self,
        path: str | Path,
        classes: Sequence[str] | None = None,
        on_error: str = "raise",
        quiet: bool = False,
        scored: bool = False,
        largest: int = LARGEST_IMAGE,
    ) -> None:
        if on_error not in POLICIES:
            raise unknown_name("on_error policy", on_error, POLICIES)
        self.path = Path(path)
        self.on_error = on_error
        self.problems: list[Problem] = []
        self.flawed: dict[int, Problem] = {}
        content = read_coco(self.path, largest)
        ids = {category["name"]: category["id"] for category in content["categories"]}
        self.class_names = list(classes) if classes is not None else sorted(ids, key=lambda name: ids[name])
        for name in self.class_names:
            if name not in ids:
                raise unknown_name(f"class in {str(path)!r}", name, ids)
        self.category_ids = [ids[name] for name in self.class_names]
        self.images: list[dict[str, Any]] = content["images"]
        self._content = content
        self._dropped: list[Any] = []  # annotations that lost a part of their polygon
        self._objects = self._by_image(content, set(ids.values()))
        if self.problems and on_error == "raise":
            raise UserError(self._refusal(scored))
        if not any(self._objects.values()):
            unusable = f" ({len(self.problems)} are unusable; the first: {self.problems[0]})" if self.problems else ""
            raise UserError(
                f"annotations {str(path)!r} hold no objects of the classes {', '.join(self.class_names)}{unusable}, so "
                "there is nothing to learn or to score; check the file and `classes`"
            )
        if not quiet:
            self._announce()

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
                record["area"] = area_of(record["segmentation"], *sizes[record["image_id"]])
        by_id = {category["id"]: category for category in self._content["categories"]}
        return {
            "info": self._content.get("info", {}),
            "licenses": self._content.get("licenses", []),
            "categories": [by_id[category_id] for category_id in self.category_ids],
            "images": images,
            "annotations": annotations,
        }

    def _by_image(self, content: dict[str, Any], known_categories: set[int]) -> dict[int, list[dict[str, Any]]]:
        sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
        labels = {category_id: label for label, category_id in enumerate(self.category_ids)}
        objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
        seen: set[int] = set()
        for position, published in enumerate(content["annotations"]):
            record = usable_annotation(position, published, sizes, known_categories, labels)
            if not isinstance(record, Problem) and record["id"] in seen:
                record = Problem("annotation id", f"annotation {record['id']}", "is there twice; ids must be unique")
            if isinstance(record, Problem):
                self.problems.append(record)
                image_id = tidied("annotations", published).get("image_id") if isinstance(published, dict) else None
                if isinstance(image_id, int) and image_id in sizes:
                    self.flawed.setdefault(image_id, record)
                continue
            seen.add(record["id"])
            if record["category_id"] in labels:
                if parts_dropped(published, record):
                    self._dropped.append(record["id"])
                objects[record["image_id"]].append({**record, "label": labels[record["category_id"]]})
        return dict(objects)

    def _announce(self) -> None:
        if self.problems:
            logger.warning(
                "left out %d of %d objects (on_error: skip): %s; the first: %s",
                len(self.problems),
                len(self._content["annotations"]),
                self._kinds(),
                self.problems[0].within(self.path),
            )
        if self._dropped:
            logger.warning(
                "left out the parts of %d polygon%s in %s that have fewer than three points or no area; the first: "
                "annotation %s",
                len(self._dropped),
                "s" * (len(self._dropped) > 1),
                self.path,
                self._dropped[0],
            )

    def _refusal(self, scored: bool) -> str:
        first = self.problems[0].within(self.path)
        count = len(self.problems)
        others = f" ({count} such objects: {self._kinds()}; distill data verify lists them)" if count > 1 else ""
        if scored:
            way_out = (
                "correct or delete it there, because a score over fewer objects would not compare (on_error is for "
                "training files)"
            )
        else:
            way_out = "correct the file, or set on_error: skip to train without such objects"
        return f"{first}{others}; {way_out}"

    def _kinds(self) -> str:
        return ", ".join(f"{count} {kind}" for kind, count in Counter(p.kind for p in self.problems).most_common())


def read_json(path: Path) -> Any:
    """The content of a JSON file in UTF-8, with or without a byte order mark.

    Raises:
        UserError: The file is missing, unreadable, in another encoding or no JSON.
    """
    if not path.is_file():
        raise UserError(f"annotations {str(path)!r} do not exist; give the path of a COCO instance annotation file")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(
            f"annotations {str(path)!r} are not valid JSON in UTF-8 ({error}); save them in that encoding"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"annotations {str(path)!r} are not valid JSON ({error}); copy or download them again"
        ) from error


def read_sections(path: Path) -> dict[str, Any]:
    """A file with the three lists of a COCO file; their records may still be broken.

    Raises:
        UserError: See `read_json`; or a list is missing.
    """
    content: dict[str, Any] = read_json(path)
    for section in REQUIRED:
        if not isinstance(content, dict) or not isinstance(content.get(section), list):
            raise UserError(
                f"annotations {str(path)!r} have no list {section!r}; a COCO file has {', '.join(REQUIRED)}"
            )
    return content


def read_coco(path: Path, largest: int = LARGEST_IMAGE) -> dict[str, Any]:
    """A COCO file whose categories and images are sound; annotations may still be broken.

    Args:
        path: The file.
        largest: Pixels of the largest image that the caller can read.

    Raises:
        UserError: See `read_sections`; or a category or an image record cannot be used.
    """
    content = read_sections(path)
    rules = (("categories", category_problem), ("images", partial(image_problem, largest=largest)))
    for section, problem_of in rules:
        content[section] = [tidied(section, record) for record in content[section]]
        for position, record in enumerate(content[section]):
            if problem := missing_keys(section, position, record) or problem_of(record):
                raise UserError(f"{problem.within(path)}; correct the file")
    for section, key, fault, way_out in _UNIQUE:
        value, count = (
            Counter(record[key] for record in content[section]).most_common(1)[0] if content[section] else (0, 0)
        )
        if count > 1:
            raise UserError(f"annotations {str(path)!r} {fault} twice ({value!r}); {way_out}")
    return content
