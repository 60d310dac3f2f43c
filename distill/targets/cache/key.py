"""The key of stored targets, a tree of plain values: caches with equal keys hold the same targets."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FORMAT = 1  # of the folder; a reader knows one

_CHUNK = 1 << 22


def digest_of(key: Mapping[str, Any]) -> str:
    """32 hexadecimal digits that stand for a key."""
    return hashlib.blake2b(canonical(key).encode(), digest_size=16).hexdigest()


def canonical(value: Any) -> str:
    """JSON that is the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def first_difference(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first field that differs, with its dotted name and both values.

    Args:
        stored: The key of a cache.
        wanted: That of a recipe. It may lack whole groups that do not count, such as the training images.
    """
    here, there = dict(_flat(stored)), dict(_flat(wanted))
    for name, value in there.items():
        if name not in here or canonical(here[name]) != canonical(value):
            return name, here.get(name), value
    for name, value in here.items():
        if name not in there and ".arguments." in name:  # one that the recipe leaves to its default
            return name, value, None
    return None


def file_facts(path: Path, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Identifies a file of weights: its size and a digest of its content.

    Args:
        path: The file.
        known: What this function returned before. A file of that size and time is not read again.
    """
    stat = path.stat()
    if known and known["bytes"] == stat.st_size and known["modified"] == stat.st_mtime_ns:
        return dict(known)
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return {"bytes": stat.st_size, "modified": stat.st_mtime_ns, "digest": digest.hexdigest()}


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for name, value in tree.items():
            yield from _flat(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, tree
