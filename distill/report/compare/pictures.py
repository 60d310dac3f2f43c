"""The same images as each row sees them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.report.compare.rows import Row
from distill.report.pictures.stored import PictureSet, read_pictures

_SHARED = {"distillation": ("input", "teacher")}  # parts that all rows have in common
_SHARED_OTHERWISE = ("input", "truth")


def pictures(rows: Sequence[Row], task: str) -> list[dict[str, Any]]:
    """Pictures of images that the first run with any of each row shows, by image.

    Args:
        rows: The rows of a section.
        task: Its task.

    Returns:
        What compare.json has under `pictures`: files of the parts that all rows share, and of those of each row.
    """
    usual = _SHARED.get(task, _SHARED_OTHERWISE)
    images: dict[str, dict[str, Any]] = {}
    teachers = {row.teacher for row in rows}
    for row in rows:
        for one in _chosen(row).pictures:
            image = images.setdefault(one.name, {"name": one.name, "shared": {}, "rows": {}})
            own = {}
            for part, path in one.parts.items():
                if part not in usual:
                    own[part] = str(path)
                elif part not in image["shared"]:
                    image["shared"][part] = str(path)
                elif part == "teacher" and len(teachers) > 1:
                    own[part] = str(path)  # of another teacher than the first row's
            captions = {part: text for part, text in one.captions.items() if part in own}
            if own:
                image["rows"][row.id] = {"parts": own, "captions": captions}
    return list(images.values())


def _chosen(row: Row) -> PictureSet:
    """The pictures that show a row: of how it was scored, else the latest of the fit."""
    for run in row.runs:
        found = [one for one in read_pictures(run.record.folder) if all(map(Path.is_file, _files(one)))]
        scored = [one for one in found if one.stage == run.stage]
        if found:
            return (scored or found)[-1]
    return PictureSet("fit", 0, [])


def _files(shown: PictureSet) -> list[Path]:
    return [path for one in shown.pictures for path in one.parts.values()]
