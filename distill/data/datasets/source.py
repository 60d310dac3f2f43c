"""A published data set, found on the disk but not yet converted; and functions that its readers share.

Axes: H W pixels of an image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.annotations import CocoAnnotations
from distill.data.masks import mask_fields
from distill.data.records import Problem
from distill.errors import UserError

Found = dict[str, Any] | Problem  # an object, or why it is none
Objects = Callable[[int, int], Sequence[Found]]
_FOLDERS_OF_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Item:
    """One image of a source.

    Args:
        name: Its file name below the prepared `images/`.
        image: The file, which may be missing.
        image_id: Its COCO id, unique in the source.
        splits: The annotation files it goes into, for example "train" or "official/train".
        objects: Reads the image's objects, given its height and width: COCO annotations with `category_id`, `bbox`,
            `segmentation` and, where published, `area` and `iscrowd`; a problem stands for an object that cannot be
            used. Raises `BrokenImage` if they cannot be read.
        size: Height and width as published, if they are.
        files: Further files that `objects` reads.
    """

    name: str
    image: Path
    image_id: int
    splits: tuple[str, ...]
    objects: Objects
    size: tuple[int, int] | None = None
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Source:
    """A data set as published.

    Args:
        layout: Which layout was found, in words.
        class_names: Names by category id, from 1.
        items: Its images.
        other_files: Files that belong to no single item, among them those that `in_pairs` left out.
        skipped: What the reader left out; each reads as a line of its own.
    """

    layout: str
    class_names: Sequence[str]
    items: Sequence[Item]
    other_files: Sequence[Path] = ()
    skipped: Sequence[Problem] = field(default_factory=tuple)


def in_pairs(
    images: Mapping[str, Path], labels: Mapping[str, Path], label: str, on_error: str
) -> tuple[list[str], list[Path], list[Problem]]:
    """The names with both an image and a label.

    Args:
        images: Image files by name.
        labels: The files that say what they show, by the same names.
        label: What such a file is called.
        on_error: "raise" stops if a file has no counterpart, "skip" leaves it out.

    Returns:
        The names in the order of `images`; the files left out; and a line about each of these.

    Raises:
        UserError: Under "raise", there is such a file.
    """
    counts: list[str] = []
    alone: list[Path] = []
    skipped: list[Problem] = []
    for own, others, kind, other in ((images, labels, "image", label), (labels, images, label, "image")):
        paths = sorted(path for name, path in own.items() if name not in others)
        if paths:
            counts.append(f"{len(paths)} of {len(own)} {kind}s have no {other}, for example {str(paths[0])!r}")
        alone += paths
        skipped += [Problem(f"{kind} without {other}", "", f"{kind} {str(path)!r} has no {other}") for path in paths]
    if counts and on_error == "raise":
        raise UserError(f"{'; '.join(counts)}; add what is missing, or leave such files out with --on-error skip")
    return [name for name in images if name in labels], alone, skipped


def coco_items(
    files: Mapping[str, Path],
    images: Mapping[str, Path],
    fallback: Path,
    on_error: str,
    splits_of: Callable[[str, str], tuple[str, ...]] = lambda name, split: (split,),
) -> tuple[list[str], list[Item], list[Problem]]:
    """Items of COCO files, one for each split.

    Args:
        files: Annotation file by split.
        images: Image files by stem.
        fallback: The folder where an image is reported missing.
        on_error: "raise" stops at the first unusable object, "skip" leaves such objects out.
        splits_of: The splits that an image goes into, from its file name and the split of its file.

    Returns:
        Class names, items, and what was left out.

    Raises:
        UserError: A file cannot be used, the files disagree about classes, an image is in two of them, or an object is
            unusable (under "raise").
    """
    contents = {split: CocoAnnotations(path, on_error="skip", quiet=True) for split, path in files.items()}
    skipped = [
        Problem(problem.kind, "", problem.within(content.path))
        for content in contents.values()
        for problem in content.problems
    ]
    if skipped and on_error == "raise":
        raise UserError(f"{skipped[0]}; correct the file, or leave such objects out with --on-error skip")
    class_names = next(iter(contents.values())).class_names
    ids = [image["id"] for content in contents.values() for image in content.images]
    keep_ids = len(set(ids)) == len(ids)  # each file may count from 0
    items: dict[str, Item] = {}
    for split, content in contents.items():
        if content.class_names != class_names:
            raise UserError(
                f"annotations {str(content.path)!r} have other classes than {str(files[next(iter(files))])!r}"
            )
        for record in content.images:
            name = Path(record["file_name"])
            # Only what lies in the source is prepared, so a path that leads out of it names a missing image.
            inside = name.name if name.is_absolute() or ".." in name.parts else name
            path = images.get(name.stem, fallback / inside)
            if path.name in items:
                raise UserError(f"annotations {str(content.path)!r} list {path.name!r} twice, or another file does too")
            items[path.name] = Item(
                name=path.name,
                image=path,
                image_id=record["id"] if keep_ids else len(items) + 1,
                splits=splits_of(path.name, split),
                objects=_published(content, record["id"]),
                size=(record["height"], record["width"]),
            )
    return class_names, list(items.values()), skipped


def stem_below(path: Path, root: Path) -> str:
    """The path of a file below `root`, without suffix, which an image and its label share."""
    return path.relative_to(root).with_suffix("").as_posix()


def part_of(path: Path, root: Path, default: str = "all") -> str:
    """The split that a folder between `root` and a file names: "train", "val" or "test"; else `default`."""
    for folder in path.relative_to(root).parts[:-1]:
        if folder.lower() in _FOLDERS_OF_SPLITS:
            return _FOLDERS_OF_SPLITS[folder.lower()]
    return default


def mask_object(mask: NDArray[np.bool_], category_id: int = 1) -> dict[str, Any]:
    """The COCO annotation of a mask (H, W), see `mask_fields`."""
    return {"category_id": category_id, **mask_fields(mask)}


def _published(content: CocoAnnotations, image_id: int) -> Objects:
    def objects(height: int, width: int) -> list[dict[str, Any]]:
        return [
            {key: value for key, value in record.items() if key not in ("id", "image_id", "label")}
            | {"category_id": record["label"] + 1}
            for record in content.objects(image_id)
        ]

    return objects
