"""The folder of tiles: written whole or not at all, once, with sums of everything read and written."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.curate.manifest import MANIFEST, is_intact, manifest_of, sha256
from distill.curate.target import Written, fresh_folder, one_line_of, refuse_foreign_files, remove_remains
from distill.curate.tracking import Track
from distill.data.images import is_file
from distill.data.records import Problem
from distill.errors import UserError

_VERSION = 1  # raised whenever tiling changes, so that stored tiles are written again


@dataclass
class Made:
    """Counts of the tiles that were cut.

    Args:
        counts: Numbers of tiles and objects by what became of them, for each part.
        skipped: What was left out because it cannot be used.
    """

    counts: dict[str, dict[str, int]]
    skipped: list[Problem] = field(default_factory=list)


def write_tiles(
    out: Path, settings: Mapping[str, Any], files: Iterable[Path], cut: Callable[[Path], Made], track: Track[Any]
) -> Written:
    """Calls `cut` with a new folder, which then takes the place of `out`; does nothing if that has been done already.

    Args:
        out: The folder to write, or a link to it.
        settings: All that shapes the tiles, beside the files.
        files: The files that `cut` reads; those that are missing are for `cut` to report.
        cut: Writes the tiles.
        track: Shows progress.

    Raises:
        UserError: A file of `files` lies in `out`, or `out` holds files of others or cannot be written.
    """
    root = Path(os.path.realpath(out))  # a link stays, and the folder that it leads to is replaced
    present = [path for path in dict.fromkeys(files) if is_file(path)]
    for path in present:
        if root in Path(os.path.realpath(path)).parents:
            raise UserError(f"--out {str(out)!r} holds {str(path)!r}, which is to be cut; name another folder")
    settings = {"data": "tiles", "version": _VERSION, **settings, "inputs": _sums(present, track)}
    with one_line_of("--out", out):
        old = manifest_of(out)
        remove_remains(root)
        if old is not None and {**old, **settings} == old and is_intact(out, old, track):
            return Written(out, changed=False, manifest=old)
        if old is not None and old.get("data") != "tiles":
            raise UserError(f"--out {str(out)!r} holds the data set {old.get('data')}; name another folder")
        refuse_foreign_files("--out", out, old, "tile")
        with fresh_folder(root) as fresh:
            made = cut(fresh)
            written = sorted(path for path in fresh.rglob("*") if path.is_file())
            manifest = {
                **settings,
                "parts": made.counts,
                "skipped_by_kind": dict(Counter(problem.kind for problem in made.skipped).most_common()),
                "skipped": list(map(str, made.skipped)),
                "outputs": {path.relative_to(fresh).as_posix(): sha256(path) for path in written},
            }
            (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return Written(out, changed=True, manifest=manifest)


def _sums(files: Sequence[Path], track: Track[Any]) -> dict[str, str]:
    try:
        return {path.as_posix(): sha256(path) for path in track(files, "reading the source")}
    except OSError as error:
        raise UserError(f"{str(error.filename)!r} cannot be read ({error.strerror}); make it readable") from error
