"""A data set with one thing wrong, and what verification finds in it."""

from pathlib import Path
from typing import Any

from distill.curate.verify import find_parts, verify_instances
from distill.curate.verify.report import Report
from tests.data.published import coco, save, scene, write_json


def data_set(root: Path, change: Any = None) -> Path:
    """Six images in train and three in val, all different; `change` works on the content of train."""
    for part, numbers in (("train", range(6)), ("val", range(10, 13))):
        names = [f"{number}.png" for number in numbers]
        for number, name in zip(numbers, names, strict=True):
            save(scene(number), root / "images" / name)
        content = coco(names, numbers[0] + 1)
        if part == "train" and change is not None:
            change(content)
        write_json(content, root / f"annotations/{part}.json")
    return root


def ship_images(root: Path) -> Path:
    """Six images with one ship each, in one part with a long name."""
    names = [f"{number}.png" for number in range(6)]
    for number, name in enumerate(names):
        save(scene(number), root / "images" / name)
    write_json(coco(names, 1), root / "annotations/instances_train_of_a_part_with_a_long_name.json")
    return root


def checked(root: Path, **options: Any) -> Report:
    return verify_instances(root, find_parts(root), **options)


def findings(report: Report, level: str = "") -> dict[str, str]:
    """Messages by part and check, those of one check in one text."""
    found: dict[str, str] = {}
    for f in report.findings:
        if not level or f.level == level:
            found[f"{f.part}/{f.check}"] = f"{found.get(f'{f.part}/{f.check}', '')}{f.message}\n"
    return found
