"""A published data set, found on the disk but not yet converted; and the pieces that its readers share.

Axes: H W pixels of an image.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.annotations import CocoAnnotations
from distill.data.images import SUFFIXES
from distill.errors import UserError

Objects = Callable[[int, int], list[dict[str, Any]]]


@dataclass(frozen=True)
class Item:
    """One image of a source.

    Args:
        name: Its file name below the prepared `images/`.
        image: The file, which may be missing.
        image_id: Its COCO id, unique in the source.
        splits: The annotation files it goes into, for example "train" or "official/train".
        objects: Reads the image's objects, given its height and width: COCO annotations with `category_id`, `bbox`,
            `segmentation` and, where published, `area` and `iscrowd`. Raises `BrokenImage` if they cannot be read.
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
        annotation_files: Files that belong to no single image.
        skipped: What the reader left out, one line each.
    """

    layout: str
    class_names: Sequence[str]
    items: Sequence[Item]
    annotation_files: Sequence[Path] = ()
    skipped: Sequence[str] = field(default_factory=tuple)


def subfolders(folder: Path, depth: int = 3) -> list[Path]:
    """`folder` and the folders below it, the nearest first: archives unpack into one or two folders of their own."""
    found, level = [folder], [folder]
    for _ in range(depth):
        level = sorted(path for parent in level for path in parent.iterdir() if path.is_dir() and not path.is_symlink())
        found += level
    return found


def images_by_stem(folders: Iterable[Path]) -> dict[str, Path]:
    """The image files in `folders` by name without suffix, because annotations may disagree about the suffix."""
    return {
        path.stem: path
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.iterdir(), reverse=True)
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    }


def coco_items(
    files: Mapping[str, Path],
    images: Mapping[str, Path],
    fallback: Path,
    on_error: str,
    splits_of: Callable[[str, str], tuple[str, ...]] = lambda name, split: (split,),
) -> tuple[list[str], list[Item], list[str]]:
    """Items of COCO files, one for each split.

    Args:
        files: Annotation file by split.
        images: Image files by stem.
        fallback: The folder where an image is reported missing.
        on_error: See `CocoAnnotations`.
        splits_of: The splits that an image goes into, from its file name and the split of its file.

    Returns:
        Class names, items, and what was left out.

    Raises:
        UserError: A file cannot be used, the files disagree about classes, or an image is in two of them.
    """
    contents = {split: CocoAnnotations(path, on_error=on_error) for split, path in files.items()}
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
            path = images.get(Path(record["file_name"]).stem, fallback / record["file_name"])
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
    skipped = [problem.within(content.path) for content in contents.values() for problem in content.problems]
    return class_names, list(items.values()), skipped


def mask_object(mask: NDArray[np.bool_], category_id: int = 1) -> dict[str, Any]:
    """The COCO annotation of a mask (H, W): run-length encoding, area in pixels, and the box of its pixels."""
    from pycocotools import mask as coco_mask

    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "category_id": category_id,
        "segmentation": {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")},
        "area": float(mask.sum()),
        "bbox": [float(number) for number in coco_mask.toBbox(rle)],
    }


def rectangle(x1: float, y1: float, x2: float, y2: float) -> list[list[float]]:
    """A box as polygons, for data sets that publish nothing finer."""
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def _published(content: CocoAnnotations, image_id: int) -> Objects:
    def objects(height: int, width: int) -> list[dict[str, Any]]:
        return [
            {key: value for key, value in record.items() if key not in ("id", "image_id", "label")}
            | {"category_id": record["label"] + 1}
            for record in content.objects(image_id)
        ]

    return objects
