"""The manifest of a prepared data set: sums of every file that was read and written, and whether they still hold."""

import hashlib
import json
from pathlib import Path
from typing import Any

from distill.curate.tracking import Track
from distill.data.images import is_file

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


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
