"""Converts the images and objects of a published data set to COCO files.

Annotations are numbered from 1: published files use 0, which evaluation by pycocotools reads as "unmatched",
and use the same id in train and test. Image ids stay where they are unique.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from distill.curate.tracking import Track
from distill.data.datasets.source import Found, Item, Source
from distill.data.images import BrokenImage, read_image, size_fault
from distill.data.masks import area_of
from distill.data.records import LARGEST_IMAGE, Problem, tidied, with_geometry
from distill.data.tile_files import image_size
from distill.errors import UserError

Size = tuple[int, int]


def convert(source: Source, root: Path, on_error: str, track: Track[Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Writes `<root>/images/` and `<root>/annotations/<split>.json`.

    Args:
        source: The data set as published.
        root: The folder to write.
        on_error: "raise" stops at the first image or object that cannot be used, "skip" leaves it out.
        track: Shows progress.

    Returns:
        The numbers of images and objects of each split, and what was left out.

    Raises:
        UserError: No image can be used, or one image or object cannot be under "raise".
    """
    skipped = list(source.skipped)
    splits = dict.fromkeys(split for item in source.items for split in item.splits)
    contents = {split: _empty(source) for split in splits}
    count = 0
    for item in track(source.items, "converting"):
        found = _read(item)
        if isinstance(found, Problem):
            if on_error == "raise":
                raise UserError(f"{found}; correct the source, or leave such images out with --on-error skip")
            skipped.append(found)
            continue
        size, objects = found
        _copy(item, root)
        kept, unusable = _usable(item, size, objects)
        if unusable and on_error == "raise":
            raise UserError(f"{unusable[0].fault}; correct the source, or leave it out with --on-error skip")
        skipped += unusable
        for annotation in kept:
            count += 1
            annotation["id"] = count
        record = {"id": item.image_id, "file_name": item.name, "height": size[0], "width": size[1]}
        for split in item.splits:
            contents[split]["images"].append(record)
            contents[split]["annotations"] += kept
    if not any(content["images"] for content in contents.values()):
        raise UserError(f"none of the {len(source.items)} images can be used; the first: {skipped[0]}")
    return {split: _write(content, root / f"annotations/{split}.json") for split, content in contents.items()}, skipped


def _copy(item: Item, root: Path) -> None:
    path = root / "images" / PurePosixPath(item.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(item.image, path)


def _write(content: dict[str, Any], path: Path) -> dict[str, int]:
    """Writes a COCO file; returns its numbers of images and objects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return {"images": len(content["images"]), "objects": len(content["annotations"])}


def _usable(item: Item, size: Size, objects: Sequence[Found]) -> tuple[list[dict[str, Any]], list[Problem]]:
    """The objects of an image as COCO annotations, and those that cannot be used."""
    kept: list[dict[str, Any]] = []
    unusable: list[Problem] = []
    for position, annotation in enumerate(objects, start=1):
        if isinstance(annotation, Problem):
            unusable.append(Problem(annotation.kind, "", f"{item.name}: {annotation}"))
            continue
        annotation = {"id": position, "image_id": item.image_id, "iscrowd": 0, **annotation}
        checked = with_geometry(tidied("annotations", annotation), {item.image_id: size})
        if isinstance(checked, Problem):
            unusable.append(Problem(checked.kind, "", f"{item.name}: {checked}"))
        else:
            kept.append(checked | {"area": checked.get("area", area_of(checked["segmentation"], *size))})
    return kept, unusable


def _read(item: Item) -> tuple[Size, Sequence[Found]] | Problem:
    """Height and width of an image, and its objects; or what makes it unusable."""
    kind = "image"
    try:
        height, width = image_size(item.image)
        if height * width <= LARGEST_IMAGE:  # a larger one is for `distill data tile`, which reads by windows
            height, width = read_image(item.image).shape[-2:]
        published = item.size or (height, width)
        if fault := size_fault(f"image {str(item.image)!r}", (height, width), "its annotations say", published):
            raise BrokenImage(fault)
        kind = "annotation file"
        return (height, width), item.objects(height, width)
    except BrokenImage as error:
        return Problem(kind, "", str(error))


def _empty(source: Source) -> dict[str, Any]:
    return {
        "info": {"description": f"prepared from: {source.layout}"},
        "licenses": [],
        "categories": [{"id": number, "name": name} for number, name in enumerate(source.class_names, start=1)],
        "images": [],
        "annotations": [],
    }
