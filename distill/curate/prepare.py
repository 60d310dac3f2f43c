"""Turns a published data set into the layout that this project reads, once, with sums of everything read and written.

A prepared data set is `images/` (the files as published), `annotations/<split>.json` (COCO) and `manifest.json`.
"""

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.curate.convert import convert
from distill.curate.manifest import MANIFEST, is_intact, manifest_of, sha256
from distill.curate.target import (
    Written,
    fresh_folder,
    one_line_of,
    refuse_foreign_files,
    refuse_overlap,
    remove_remains,
)
from distill.curate.tracking import Track, silent
from distill.data.broken import POLICIES
from distill.data.datasets import find_source
from distill.data.datasets.source import Source
from distill.data.images import is_file
from distill.errors import UserError, unknown_name

logger = logging.getLogger(__name__)

_VERSION = 2  # raised whenever conversion changes, so that stored sets are written again


def prepare(
    name: str,
    source: str | Path,
    target: str | Path,
    on_error: str = "raise",
    track: Track[Any] = silent,
    options: Mapping[str, str] | None = None,
) -> Written:
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
        options: What else is said about the source, see `distill.data.datasets.find_source`.

    Raises:
        UserError: The source is not the data set, broken or unreadable, or the target holds files that this function
            did not write, or cannot be written.
    """
    if on_error not in POLICIES:
        raise unknown_name("--on-error policy", on_error, POLICIES)
    source, target = Path(source), Path(target)
    options = dict(options or {})
    found = find_source(name, source, on_error, **options)
    root = Path(os.path.realpath(target))  # a link stays, and the folder that it leads to is replaced
    refuse_overlap("--target", target, "--source", source)
    inputs = _sums(found, source, track)
    settings = {"data": name, "version": _VERSION, "on_error": on_error, "layout": found.layout}
    settings |= {"options": options} if options else {}
    with one_line_of("--target", target):
        old = manifest_of(target)
        remove_remains(root)
        same = old is not None and old.get("options", {}) == options and {**old, **settings, "inputs": inputs} == old
        if old is not None and same and is_intact(target, old, track):
            return Written(target, changed=False, manifest=old)
        if old is not None and old.get("data") != name:
            raise UserError(f"--target {str(target)!r} holds the data set {old.get('data')}; name another target")
        refuse_foreign_files("--target", target, old, "prepare")
        manifest = _replace(root, found, source, settings | {"inputs": inputs}, track)
    for split, count in manifest["splits"].items():
        if count["images"] == 0:
            logger.warning("annotations/%s.json is empty: every image of this part was left out", split)
    return Written(target, changed=True, manifest=manifest)


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
    with fresh_folder(root) as fresh:
        splits, skipped = convert(found, fresh, settings["on_error"], track)
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
    return manifest
