"""Turns a published data set into the layout that this project reads, once, with sums of everything read and written.

A prepared data set is `images/` (the files as published), `annotations/<split>.json` (COCO) and `manifest.json`. Ids of
annotations are counted anew from 1: published files use 0, which evaluation by pycocotools reads as "unmatched", and
use the same id in train and test. Image ids stay where they are unique.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from distill.data.broken import POLICIES
from distill.data.datasets import find_source
from distill.data.datasets.source import Item, Source
from distill.data.images import BrokenImage, is_file, read_image
from distill.data.masks import area_of
from distill.data.records import Problem, tidied, with_geometry
from distill.errors import UserError, unknown_name

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
_VERSION = 2  # raised whenever conversion changes, so that stored sets are written again

T = TypeVar("T")
# Shows progress over a sequence: the sequence, and what is being done.
Track = Callable[[Sequence[T], str], Iterable[T]]


@dataclass(frozen=True)
class Prepared:
    """What `prepare` found and did.

    Args:
        root: The prepared data set.
        changed: False if it was there already and nothing had to be done.
        manifest: The content of its `manifest.json`.
    """

    root: Path
    changed: bool
    manifest: dict[str, Any]


def prepare(
    name: str,
    source: str | Path,
    target: str | Path,
    on_error: str = "raise",
    track: Track[Any] = lambda sequence, _: sequence,
) -> Prepared:
    """Converts a published data set; does nothing if that has been done already.

    The target appears in one step when all of it is written, so an interrupted run leaves none or the old one. An old
    one is replaced only if every file in it is one that this function wrote. What a killed run left beside it goes.

    Args:
        name: Which data set, see `distill.data.datasets.NAMES`.
        source: Where its archive was unpacked; it is only read.
        target: The folder to write, or a link to it.
        on_error: "raise" stops at the first image or object that cannot be used, "skip" leaves it out and lists it in
            the manifest.
        track: Wraps what takes long, to show progress.

    Raises:
        UserError: The source is not the data set, broken or unreadable, or the target holds files that are not ours or
            cannot be written.
    """
    if on_error not in POLICIES:
        raise unknown_name("--on-error policy", on_error, POLICIES)
    source, target = Path(source), Path(target)
    found = find_source(name, source, on_error)
    root = Path(os.path.realpath(target))  # a link stays, and the folder that it leads to is replaced
    if _overlap(source.resolve(), root):
        raise UserError(f"--target {str(target)!r} and --source {str(source)!r} lie in one another; keep them apart")
    inputs = _sums(found, source, track)
    settings = {"data": name, "version": _VERSION, "on_error": on_error, "layout": found.layout}
    try:
        old = manifest_of(target)
        _remove_remains(root)
        if old is not None and {**old, **settings, "inputs": inputs} == old and _is_intact(target, old, track):
            return Prepared(target, changed=False, manifest=old)
        if old is not None and old.get("data") != name:
            raise UserError(f"--target {str(target)!r} holds the data set {old.get('data')}; name another target")
        _refuse_foreign_files(target, old)
        manifest = _replace(root, found, source, settings | {"inputs": inputs}, track)
    except OSError as error:
        raise UserError(
            f"--target {str(target)!r} cannot be read or written ({error.strerror or error}); make room, or name a "
            "folder that you may write"
        ) from error
    for split, count in manifest["splits"].items():
        if count["images"] == 0:
            logger.warning("annotations/%s.json is empty: every image of this part was left out", split)
    return Prepared(target, changed=True, manifest=manifest)


def _sums(found: Source, source: Path, track: Track[Any]) -> dict[str, str]:
    """SHA-256 of every file found in `source`, by its path below it; missing ones have none."""
    files = [*found.other_files, *(path for item in found.items for path in (item.image, *item.files))]
    present = [path for path in dict.fromkeys(files) if is_file(path)]
    try:
        return {path.relative_to(source).as_posix(): sha256(path) for path in track(present, "reading the source")}
    except OSError as error:
        raise UserError(
            f"--source {str(source)!r} holds {str(error.filename)!r}, which cannot be read ({error.strerror}); make it "
            "readable"
        ) from error


def _replace(root: Path, found: Source, source: Path, settings: dict[str, Any], track: Track[Any]) -> dict[str, Any]:
    """Writes the data set beside `root` and puts it there in one step; returns its manifest."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=_remains_prefix(root)) as folder:
        # Below the temporary folder, because that one is private to the user while a data set should not be.
        fresh = Path(folder) / "fresh"
        splits, skipped = _write(found, fresh, settings["on_error"], track)
        images = {
            f"images/{item.name}": settings["inputs"][item.image.relative_to(source).as_posix()]
            for item in found.items
            if (fresh / "images" / item.name).exists()
        }
        annotations = {f"annotations/{split}.json": sha256(fresh / f"annotations/{split}.json") for split in splits}
        manifest = {
            **settings,
            "splits": splits,
            "skipped_by_kind": dict(Counter(problem.kind for problem in skipped).most_common()),
            "skipped": [str(problem).replace(f"{source}/", "") for problem in skipped],
            "outputs": annotations | images,
        }
        (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        if root.exists():
            root.rename(Path(folder) / "old")
        fresh.rename(root)
    return manifest


def _write(found: Source, root: Path, on_error: str, track: Track[Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Writes images and annotations; returns counts by split and what was left out."""
    skipped = list(found.skipped)
    contents: dict[str, dict[str, Any]] = {
        split: _empty(found) for split in dict.fromkeys(split for item in found.items for split in item.splits)
    }
    number = 0
    for item in track(found.items, "converting"):
        read = _read(item)
        if isinstance(read, Problem):
            if on_error == "raise":
                raise UserError(f"{read}; mend the source, or leave such images out with --on-error skip")
            skipped.append(read)
            continue
        size, objects = read
        copy = root / "images" / PurePosixPath(item.name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(item.image, copy)
        record = {"id": item.image_id, "file_name": item.name, "height": size[0], "width": size[1]}
        kept = []
        for position, annotation in enumerate(objects, start=1):
            annotation = {"id": position, "image_id": item.image_id, "iscrowd": 0, **annotation}
            sound = with_geometry(tidied("annotations", annotation), {item.image_id: size})
            if isinstance(sound, Problem):
                if on_error == "raise":
                    raise UserError(f"{item.name}: {sound}; mend the source, or leave it out with --on-error skip")
                skipped.append(Problem(sound.kind, "", f"{item.name}: {sound}"))
                continue
            number += 1
            kept.append(sound | {"id": number, "area": sound.get("area", area_of(sound["segmentation"], *size))})
        for split in item.splits:
            contents[split]["images"].append(record)
            contents[split]["annotations"] += kept
    if not any(content["images"] for content in contents.values()):
        raise UserError(f"none of the {len(found.items)} images can be used; the first: {skipped[0]}")
    for split, content in contents.items():
        path = root / f"annotations/{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    counts = {
        split: {"images": len(content["images"]), "objects": len(content["annotations"])}
        for split, content in contents.items()
    }
    return counts, skipped


def _read(item: Item) -> tuple[tuple[int, int], list[dict[str, Any]]] | Problem:
    """Height and width of an image, and its objects; or what makes it unusable."""
    kind = "image"
    try:
        height, width = read_image(item.image).shape[-2:]
        if item.size is not None and item.size != (height, width):
            raise BrokenImage(
                f"image {str(item.image)!r} is {width}x{height}, but its annotations say {item.size[1]}x{item.size[0]}"
            )
        kind = "annotation file"
        return (height, width), item.objects(height, width)
    except BrokenImage as error:
        return Problem(kind, "", str(error))


def _empty(found: Source) -> dict[str, Any]:
    return {
        "info": {"description": f"prepared from: {found.layout}"},
        "licenses": [],
        "categories": [{"id": number, "name": name} for number, name in enumerate(found.class_names, start=1)],
        "images": [],
        "annotations": [],
    }


def _overlap(first: Path, second: Path) -> bool:
    return first == second or first in second.parents or second in first.parents


def _remains_prefix(root: Path) -> str:
    """How the names of temporary folders beside `root` begin, which nobody else gives."""
    return f".{root.name}.preparing-"


def _remove_remains(root: Path) -> None:
    """Deletes temporary folders of runs that were killed and could not do it."""
    for path in root.parent.iterdir() if root.parent.is_dir() else ():
        if path.name.startswith(_remains_prefix(root)) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)


def manifest_of(target: Path) -> dict[str, Any] | None:
    """The manifest of a prepared data set; None if it has none."""
    try:
        manifest = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and isinstance(manifest.get("outputs"), dict) else None


def _is_intact(target: Path, manifest: dict[str, Any], track: Track[Any]) -> bool:
    outputs = list(manifest["outputs"].items())
    if not all(is_file(target / name) for name, _ in outputs):
        return False
    return all(sha256(target / name) == digest for name, digest in track(outputs, "checking the target"))


def _refuse_foreign_files(target: Path, manifest: dict[str, Any] | None) -> None:
    if target.is_symlink() and not target.exists():
        raise UserError(f"--target {str(target)!r} is a link to nothing; create its folder, or name another target")
    if target.is_file():
        raise UserError(f"--target {str(target)!r} is a file; name a folder")
    if manifest is None and (target / MANIFEST).exists():
        raise UserError(
            f"--target {str(target)!r} holds a {MANIFEST} that is damaged or of another program, so nobody can tell "
            "whether its files may be replaced; delete the folder if so, or name another target"
        )
    ours = {MANIFEST, *manifest["outputs"]} if manifest is not None else set()
    for path in target.rglob("*") if target.is_dir() else ():
        name = path.relative_to(target).as_posix()
        if (path.is_symlink() or not path.is_dir()) and name not in ours:
            raise UserError(
                f"--target {str(target)!r} holds {name!r}, which was not written by `distill data prepare` and would "
                "be lost; move it away or name another target"
            )


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
