"""The manifest of a prepared data set: sums of every file that was read and written, and whether they still hold."""

import hashlib
import json
from pathlib import Path
from typing import Any

from distill.curate.tracking import Track
from distill.data.images import is_file
from distill.errors import UserError

MANIFEST = "manifest.json"


def manifest_of(target: Path) -> dict[str, Any] | None:
    """The manifest of a prepared data set; None if it has none."""
    try:
        manifest = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and isinstance(manifest.get("outputs"), dict) else None


def is_intact(target: Path, manifest: dict[str, Any], track: Track[Any]) -> bool:
    """Whether every file that the manifest lists is there, with the bytes that were written."""
    outputs = list(manifest["outputs"].items())
    if not all(is_file(target / name) for name, _ in outputs):
        return False
    return all(sha256(target / name) == digest for name, digest in track(outputs, "checking the target"))


def refuse_foreign_files(target: Path, manifest: dict[str, Any] | None) -> None:
    """Refuses to replace a target with files that its manifest does not list.

    Raises:
        UserError: There is such a file, the manifest is damaged, or the target is no folder.
    """
    if target.is_symlink() and not target.exists():
        raise UserError(f"--target {str(target)!r} is a link to nothing; create its folder, or name another target")
    if target.is_file():
        raise UserError(f"--target {str(target)!r} is a file; name a folder")
    if manifest is None and (target / MANIFEST).exists():
        raise UserError(
            f"--target {str(target)!r} holds a {MANIFEST} that is damaged or of another program, so nobody can tell "
            "whether its files may be replaced; delete the folder if so, or name another target"
        )
    known = {MANIFEST, *manifest["outputs"]} if manifest is not None else set()
    for path in target.rglob("*") if target.is_dir() else ():
        name = path.relative_to(target).as_posix()
        if (path.is_symlink() or not path.is_dir()) and name not in known:
            raise UserError(
                f"--target {str(target)!r} holds {name!r}, which was not written by `distill data prepare` and would "
                "be lost; move it away or name another target"
            )


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
