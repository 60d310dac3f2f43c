"""Checks of one annotation file's records: every fault, not only the first.

Axes: H W pixels of the image file. Boxes are [x, y, width, height].
"""

import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from distill.curate.verify.findings import Finding, Level, counted
from distill.curate.verify.geometry import area_and_doubts
from distill.curate.verify.layout import Part
from distill.curate.verify.report import PartSummary
from distill.data.records import (
    Problem,
    category_problem,
    image_problem,
    missing_keys,
    parts_dropped,
    tidied,
    usable_annotation,
)

_LIMITS = (32**2, 96**2)
_MOST_SCORED = 100  # COCO's maxDets, of each class in an image; and what a head finds at most in an image
_IMBALANCE = 20
_SHOWN = 3  # images in a command


class CheckedPart:
    """The sound records of a part, what is wrong with the others, and counts.

    Args:
        part: Which file.

    Attributes:
        images_folder: Where the images lie.
        images: The sound image records.
        objects: The sound annotations by image id.
        findings: What was found.
        summary: Counts.

    Raises:
        UserError: The file is no JSON, has not the three lists of a COCO file, or there is no folder of images.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self.name = part.name
        self.findings: list[Finding] = []
        self.objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self.summary = PartSummary(part.name)
        content = part.content
        self.images_folder = part.images
        self.categories = self._sound("categories", content["categories"], category_problem, "name")
        self.images = self._sound("images", content["images"], image_problem, "file_name")
        self._annotations(content["annotations"])
        self._count()

    @property
    def class_names(self) -> dict[int, str]:
        """Names by category id."""
        return {record["id"]: record["name"] for record in self.categories}

    def add(self, level: Level, check: str, message: str, advice: str, cases: Sequence[str] = ()) -> None:
        """Adds a finding about this part."""
        self.findings.append(Finding(level, self.part.name, check, message, advice, tuple(cases)))

    def _sound(
        self, section: str, records: list[Any], problem_of: Callable[[Any], Problem | None], unique: str
    ) -> list[dict[str, Any]]:
        sound: list[dict[str, Any]] = []
        problems: list[str] = []
        seen: dict[str, set[Any]] = {"id": set(), unique: set()}
        for position, record in enumerate(tidied(section, record) for record in records):
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
        names = {record["id"]: record["file_name"] for record in self.images}
        problems: dict[str, list[str]] = defaultdict(list)
        suspicions: dict[str, list[tuple[str, str]]] = defaultdict(list)  # image and case
        ids: set[int] = set()
        contents: set[str] = set()
        for position, published in enumerate(records):
            record = usable_annotation(position, published, sizes, self.class_names, self.class_names)
            if not isinstance(record, Problem) and record["id"] in ids:
                record = Problem("annotation id", f"annotation {record['id']}", "is there twice")
            if isinstance(record, Problem):
                image_id = tidied("annotations", published).get("image_id") if isinstance(published, dict) else None
                known = isinstance(image_id, int) and image_id in names
                problems[record.kind].append(f"{names[image_id]}: {record}" if known else str(record))
                continue
            where = f"{names[record['image_id']]}: "
            ids.add(record["id"])
            self.objects[record["image_id"]].append(record)
            area, doubts = area_and_doubts(record, *sizes[record["image_id"]])
            if parts_dropped(published, record):
                doubts.append("a polygon part of fewer than three points or without area, which is left out")
            essence = json.dumps([record[key] for key in ("image_id", "category_id", "bbox", "segmentation")])
            if essence in contents:
                doubts.append("a copy under another id")
            contents.add(essence)
            for doubt in doubts:
                case = f"{where}annotation {record['id']}, box {record['bbox']}"
                suspicions[doubt].append((names[record["image_id"]], case))
            size = sum(area >= limit for limit in _LIMITS)
            self.summary.sizes[list(self.summary.sizes)[size]] += 1
        for kind, cases in sorted(problems.items()):
            message = f"{len(cases)} of {len(records)} annotations cannot be used: {kind}"
            advice = "Correct or delete them: validation and test refuse the file, training leaves such objects out"
            self.add("error", kind, message, advice, cases)
        for doubt, found in sorted(suspicions.items()):
            message = f"{counted(len(found), 'object')} with {doubt}"
            shown = list(dict.fromkeys(image for image, _ in found))[:_SHOWN]
            self.add("warning", "geometry", message, f"Look: {self._preview(shown)}", [case for _, case in found])

    def _preview(self, images: list[str]) -> str:
        """The command that draws these images."""
        words = ["distill", "data", "preview", str(self.part.annotations), "--image", *images, "--output", "sheet.png"]
        if self.part.given is not None:
            words += ["--images", str(self.part.given)]
        return shlex.join(words)

    def _count(self) -> None:
        summary, names = self.summary, self.class_names
        summary.images = len(self.images)
        counts = Counter(record["category_id"] for records in self.objects.values() for record in records)
        shown = Counter(c for records in self.objects.values() for c in {record["category_id"] for record in records})
        summary.classes = {name: (counts[number], shown[number]) for number, name in sorted(names.items())}
        summary.objects = counts.total()
        by_class = {number: Counter(record["category_id"] for record in own) for number, own in self.objects.items()}
        sizes = {record["file_name"]: len(self.objects.get(record["id"], [])) for record in self.images}
        summary.most = max(sizes.values(), default=0)
        empty = [name for name, objects in sizes.items() if objects == 0]
        summary.empty = len(empty)
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
            self.add("note", "empty images", message, advice, empty)
        if summary.most > _MOST_SCORED:
            most = max(max(count.values(), default=0) for count in by_class.values())
            message = (
                f"an image has {summary.most} objects, {most} of one class; a head finds {_MOST_SCORED} an image, and "
                f"COCO scores {_MOST_SCORED} an image and class"
            )
            advice = "Raise model.head.max_detections"
            advice += " and model.max_detections" if most > _MOST_SCORED else ""
            crowded = [f"{name}: {objects} objects" for name, objects in sizes.items() if objects > _MOST_SCORED]
            self.add("warning", "crowded images", message, f"{advice}, or recall is limited", crowded)
        if missing := [size for size, count in summary.sizes.items() if count == 0]:
            message = f"no {' and no '.join(missing)} objects"
            self.add("note", "object sizes", message, "AP of such a size is undefined")
