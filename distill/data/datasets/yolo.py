"""Segmentation data sets in the layout of Ultralytics YOLO: `data.yaml`, `images/` and `labels/`.

A label has the path of its image with `labels` for `images` and `.txt` for the suffix. Its lines are
`class x1 y1 x2 y2 x3 y3 ...`, coordinates as shares of width and height; in a file of which no line has more than five
numbers, they are `class x y width height`, boxes by their centres. An image without a label, or with an empty one,
shows no object.

Source: docs.ultralytics.com/datasets/segment; `img2label_paths` and `verify_image_label` of the package ultralytics.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml  # type: ignore[import-untyped]

from distill.data.datasets.source import Found, Item, Objects, Source, part_of
from distill.data.images import SUFFIXES, BrokenImage, find_images, is_file
from distill.data.listing import below, entries, subfolders
from distill.data.masks import box_polygons
from distill.data.records import Problem
from distill.errors import UserError

SPLITS = ("train", "val", "test")
_BEYOND = 0.01  # how far a coordinate may lie outside of the image, which rounding does


def find(folder: Path, on_error: str) -> Source:
    """The images that `data.yaml` names, else those of `images/`.

    Raises:
        UserError: There is no such file, or it names folders that are not there; or a label has no image (under
            "raise").
    """
    for base in subfolders(folder):
        for path in entries(base):
            if path.suffix.lower() in (".yaml", ".yml") and (content := _description(path)) is not None:
                return _source(folder, path, content, on_error)
    raise UserError(
        f"--source {str(folder)!r} holds no YOLO data set: no data.yaml with `names` beside images/ and labels/"
    )


def _description(path: Path) -> dict[str, Any] | None:
    """The content of a `data.yaml`; None if the file is something else."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return content if isinstance(content, dict) and isinstance(content.get("names"), list | dict) else None


def _source(folder: Path, path: Path, content: dict[str, Any], on_error: str) -> Source:
    names = content["names"]
    by_id = dict(names) if isinstance(names, dict) else dict(enumerate(names))
    if not by_id or sorted(by_id, key=str) != sorted(range(len(by_id)), key=str):
        raise UserError(f"{str(path)!r} has the names {names}; give a list, or numbers from 0 with a name each")
    class_names = [str(by_id[number]) for number in range(len(by_id))]
    if len(set(class_names)) < len(class_names):
        raise UserError(f"{str(path)!r} has the names {class_names}, one of them twice; give each class its own")
    images: dict[Path, list[str]] = {}
    for split, image in _images(folder, path, content):
        if split not in images.setdefault(image, []):
            images[image].append(split)
    if not images:
        raise UserError(f"{str(path)!r} names no images, and there are none in images/ beside it")
    labels = {image: _label(image, folder) for image in images}
    skipped = _alone({label for label in labels.values() if label is not None}, folder, on_error)
    root = path.parent if all(path.parent in image.parents for image in images) else folder
    items = [
        Item(
            name=image.relative_to(root).as_posix(),
            image=image,
            image_id=number,
            splits=tuple(splits),
            objects=_objects(label, len(class_names)),
            files=() if label is None else (label,),
        )
        for number, (image, splits) in enumerate(sorted(images.items()), start=1)
        for label in (labels[image],)
    ]
    return Source(f"YOLO, {path.name}", class_names, items, [path], skipped)


def _images(folder: Path, path: Path, content: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """Split and file of each image; an image may be in several."""
    given = [(split, content.get(split)) for split in SPLITS]
    if not any(value for _, value in given):
        root = below(path.parent, "images")
        for image in find_images(root, "--source") if root.is_dir() else ():
            yield part_of(image, root), image
    for split, value in given:
        for place in value if isinstance(value, list) else [value] if value else []:
            found = _place(folder, path, content, str(place))
            if found.suffix.lower() == ".txt":
                for line in _lines(found):
                    name = PurePosixPath(line.replace("\\", "/"))
                    if ".." in name.parts:  # the prepared image would lie outside of its folder too
                        raise UserError(f"{str(found)!r} names {line!r}; give images by their paths below that file")
                    yield split, below(found.parent, name.as_posix())
            else:
                yield from ((split, image) for image in find_images(found, f"{split} of {path.name}:"))


def _lines(path: Path) -> list[str]:
    """What a list of images names."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the list of images {str(path)!r} cannot be read ({error}); save it as UTF-8") from error
    return [line.strip() for line in lines if line.strip()]


def _place(folder: Path, path: Path, content: dict[str, Any], place: str) -> Path:
    """The folder or list that `data.yaml` names: below its `path`, or below the file where that was moved.

    Raises:
        UserError: It is not there.
    """
    inner = PurePosixPath(place.replace("\\", "/"))
    # Roboflow writes ../train/images for a folder that lies beside the file.
    parts = [part for part in inner.parts if part not in ("..", ".", "/")]
    for base in (path.parent / str(content.get("path") or "."), path.parent, path.parent.parent):
        for candidate in (inner.as_posix(), "/".join(parts)):
            found = below(base, candidate) if not inner.is_absolute() else base / candidate
            if found.exists() and folder.resolve() in found.resolve().parents:
                return found
    raise UserError(
        f"{str(path)!r} names {place!r}, which is not below {str(folder)!r}; correct the path there, or give the "
        "folder that holds all of the data set as --source"
    )


def _label(image: Path, folder: Path) -> Path | None:
    """The label of an image; None where there is none."""
    parts = list(image.relative_to(folder).parts)
    last = max((i for i, part in enumerate(parts[:-1]) if part.lower() == "images"), default=None)
    if last is not None:
        parts[last] = "labels"
    parent = below(folder, "/".join(parts[:-1])) if len(parts) > 1 else folder
    for name in (f"{image.stem}.txt", f"{image.stem}.TXT"):
        if is_file(parent / name):
            return parent / name
    return None


def _alone(used: set[Path], folder: Path, on_error: str) -> list[Problem]:
    """Labels without an image, in the folders of the others.

    Raises:
        UserError: Under "raise", there is one.
    """
    kind = "label without image"
    alone = [
        path
        for parent in sorted({label.parent for label in used})
        for path in entries(parent)
        if path.suffix.lower() == ".txt" and path not in used and path.stem != "classes"
    ]
    if alone and on_error == "raise":
        raise UserError(
            f"{len(alone)} of {len(alone) + len(used)} labels have no image, for example {str(alone[0])!r}; add what "
            "is missing, or leave such files out with --on-error skip"
        )
    return [Problem(kind, "", f"label {str(path)!r} has no image; one ends in {', '.join(SUFFIXES)}") for path in alone]


def _objects(path: Path | None, classes: int) -> Objects:
    def objects(height: int, width: int) -> list[Found]:
        if path is None:
            return []
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            rows = [(number, list(map(float, line.split()))) for number, line in enumerate(lines, 1) if line.strip()]
        except (OSError, ValueError) as error:
            raise BrokenImage(f"label {str(path)!r} cannot be read ({error})") from error
        boxes = all(len(row) <= 5 for _, row in rows)
        return [_object(f"line {number} of {str(path)!r}", row, boxes, classes, height, width) for number, row in rows]

    return objects


def _object(subject: str, row: list[float], boxes: bool, classes: int, height: int, width: int) -> Found:
    """One line as an annotation, or what is wrong with it."""
    if row[0] not in range(classes):
        return Problem("class", subject, f"has the class {row[0]:g}; data.yaml names 0 to {classes - 1}")
    if len(row) % 2 == 0 or len(row) < (5 if boxes else 7):
        wanted = "four numbers after the class" if boxes else "three points or more after the class, two numbers each"
        return Problem("polygon", subject, f"has {len(row) - 1} numbers after the class; it must have {wanted}")
    if not all(-_BEYOND <= number <= 1 + _BEYOND for number in row[1:]):
        return Problem("coordinates", subject, "has a coordinate outside of 0 to 1; divide by width and height")
    numbers = [number * (width, height)[axis % 2] for axis, number in enumerate(row[1:])]
    if boxes:
        x, y, box_width, box_height = numbers
        corners = x - box_width / 2, y - box_height / 2, x + box_width / 2, y + box_height / 2
        return {"category_id": int(row[0]) + 1, "segmentation": box_polygons(*corners)}
    return {"category_id": int(row[0]) + 1, "segmentation": [numbers]}
