"""Checks of one annotation file's records: every fault, not only the first.

Axes: H W pixels of the image file. Boxes are [x, y, width, height].
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from distill.data.annotations import read_json
from distill.data.records import (
    REQUIRED,
    Problem,
    category_problem,
    geometry_problem,
    image_problem,
    missing_keys,
    reference_problem,
)
from distill.data.verification.layout import Part
from distill.data.verification.report import Finding, Level, PartSummary, counted
from distill.errors import UserError

_TOLERANCE = 1.0  # pixels; published boxes count the outline's pixels, so they reach one further than the outline
_BOX_TOLERANCE = 3.0  # pixels between a box and the extent of its mask
_LIMITS = (32**2, 96**2)
_MOST_SCORED = 100  # COCO's maxDets
_IMBALANCE = 20


class CheckedPart:
    """The sound records of a part, what is wrong with the others, and counts.

    Args:
        part: Which file.

    Attributes:
        images: The sound image records.
        objects: The sound annotations by image id.
        findings: What was found.
        summary: Counts.

    Raises:
        UserError: The file is no JSON, or has not the three lists of a COCO file.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self.findings: list[Finding] = []
        self.objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self.summary = PartSummary(part.name)
        content = read_json(part.annotations)
        for section in REQUIRED:
            if not isinstance(content, dict) or not isinstance(content.get(section), list):
                raise UserError(
                    f"{str(part.annotations)!r} has no list {section!r}; a COCO file has {', '.join(REQUIRED)}"
                )
        self.categories = self._sound("categories", content["categories"], category_problem, "name")
        self.images = self._sound("images", content["images"], image_problem, "file_name")
        self._annotations(content["annotations"])
        self._count()

    @property
    def class_names(self) -> dict[int, str]:
        """Names by category id."""
        return {record["id"]: record["name"] for record in self.categories}

    def add(self, level: Level, check: str, message: str, advice: str, cases: Iterable[str] = ()) -> None:
        """Adds a finding about this part."""
        self.findings.append(Finding(level, self.part.name, check, message, advice, tuple(cases)))

    def _sound(
        self, section: str, records: list[Any], problem_of: Callable[[Any], Problem | None], unique: str
    ) -> list[dict[str, Any]]:
        sound: list[dict[str, Any]] = []
        problems: list[str] = []
        seen: dict[str, set[Any]] = {"id": set(), unique: set()}
        for position, record in enumerate(records):
            problem = missing_keys(section, position, record) or problem_of(record)
            twice = [] if problem else [key for key in seen if record[key] in seen[key]]
            if problem or twice:
                problems.append(
                    str(problem) if problem else f"{section}: {twice[0]} {record[twice[0]]!r} is there twice"
                )
                continue
            for key, values in seen.items():
                values.add(record[key])
            sound.append(record)
        if problems:
            message = f"{len(problems)} of {len(records)} {section} cannot be used"
            self.add("error", section, message, "Training refuses the file; correct these records", problems)
        return sound

    def _annotations(self, records: list[Any]) -> None:
        sizes = {record["id"]: (record["height"], record["width"]) for record in self.images}
        problems: dict[str, list[str]] = defaultdict(list)
        suspicions: dict[str, list[str]] = defaultdict(list)
        ids: set[int] = set()
        contents: set[str] = set()
        for position, record in enumerate(records):
            problem = missing_keys("annotations", position, record)
            problem = problem or reference_problem(record, sizes, self.class_names) or geometry_problem(record, sizes)
            if problem is None and record["id"] in ids:
                problem = Problem("annotation id", f"annotation {record['id']}", "is there twice")
            if problem is not None:
                problems[problem.kind].append(str(problem))
                continue
            ids.add(record["id"])
            self.objects[record["image_id"]].append(record)
            height, width = sizes[record["image_id"]]
            area, doubts = _look_closer(record, height, width)
            for doubt in doubts:
                suspicions[doubt].append(
                    f"annotation {record['id']} of image {record['image_id']}, box {record['bbox']}"
                )
            essence = json.dumps([record[key] for key in ("image_id", "category_id", "bbox", "segmentation")])
            if essence in contents:
                suspicions["a twin under another id"].append(f"annotation {record['id']}")
            contents.add(essence)
            size = sum(area >= limit for limit in _LIMITS)
            self.summary.sizes[list(self.summary.sizes)[size]] += 1
        for kind, cases in sorted(problems.items()):
            message = f"{len(cases)} of {len(records)} annotations cannot be used: {kind}"
            advice = "Correct them; on_error: skip trains without them, validation and test refuse the file"
            self.add("error", kind, message, advice, cases)
        for doubt, cases in sorted(suspicions.items()):
            message = f"{counted(len(cases), 'object')} with {doubt}"
            self.add("warning", "geometry", message, "Look at them with distill data preview", cases)
        if 0 in ids:
            message = "one annotation has the id 0"
            advice = (
                "pycocotools alone takes it for unmatched and loses it; this project counts ids anew, others do not"
            )
            self.add("warning", "annotation id", message, advice)

    def _count(self) -> None:
        summary, names = self.summary, self.class_names
        summary.images = len(self.images)
        counts = Counter(record["category_id"] for records in self.objects.values() for record in records)
        shown = Counter(c for records in self.objects.values() for c in {record["category_id"] for record in records})
        summary.classes = {name: (counts[number], shown[number]) for number, name in sorted(names.items())}
        summary.objects = counts.total()
        summary.most = max((len(records) for records in self.objects.values()), default=0)
        summary.empty = sum(not self.objects.get(record["id"]) for record in self.images)
        if absent := [name for name, (objects, _) in summary.classes.items() if objects == 0]:
            advice = "Such a class is not learned from a training part and has no score in another"
            self.add("warning", "class balance", f"no object of {', '.join(absent)}", advice)
        present = [objects for objects, _ in summary.classes.values() if objects]
        if present and max(present) >= _IMBALANCE * min(present):
            message = f"the largest class has {max(present) / min(present):.0f} times the objects of the smallest"
            advice = "Read scores by class, and see rare classes more often in training"
            self.add("note", "class balance", message, advice)
        if summary.empty:
            message = f"{summary.empty} of {counted(summary.images, 'image')} without an object"
            advice = "They teach what is no object; filter_empty: true leaves them out of training"
            self.add("note", "empty images", message, advice)
        if summary.most > _MOST_SCORED:
            message = f"an image has {summary.most} objects, and COCO scores {_MOST_SCORED}"
            advice = "Raise max_detections, or the best possible recall is below 1"
            self.add("warning", "crowded images", message, advice)
        if missing := [size for size, count in summary.sizes.items() if count == 0]:
            message = f"no {' and no '.join(missing)} objects"
            self.add("note", "object sizes", message, "AP of such a size is undefined (-1)")


def _look_closer(record: dict[str, Any], height: int, width: int) -> tuple[float, list[str]]:
    """The object's area in the file's terms, and what is odd about it although it can be used."""
    from pycocotools import mask as coco_mask

    shape = record["segmentation"]
    if isinstance(shape, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(shape, height, width))
    elif isinstance(shape["counts"], list):
        rle = coco_mask.frPyObjects(shape, height, width)
    else:
        rle = shape
    pixels = float(coco_mask.area(rle))
    x, y, box_width, box_height = record["bbox"]
    box = np.array([x, y, x + box_width, y + box_height])
    doubts = []
    if (box < -_TOLERANCE).any() or (box > np.array([width, height] * 2) + _TOLERANCE).any():
        doubts.append("a box that sticks out of the image")
    if isinstance(shape, list):
        points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in shape])
        if (points < -_TOLERANCE).any() or (points > np.array([width, height]) + _TOLERANCE).any():
            doubts.append("a polygon that sticks out of the image")
    if pixels == 0:
        doubts.append("a mask without a pixel")
    else:
        left, top, mask_width, mask_height = coco_mask.toBbox(rle)
        extent = np.array([left, top, left + mask_width, top + mask_height])
        if (np.abs(extent - box) > _BOX_TOLERANCE).any():
            doubts.append(f"a box that is more than {_BOX_TOLERANCE:.0f} pixels off their mask")
    return float(record.get("area", pixels)), doubts
