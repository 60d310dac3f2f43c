"""Writes a folder whole or not at all, and replaces only its own earlier version."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.curate.manifest import MANIFEST
from distill.errors import UserError


@dataclass(frozen=True)
class Written:
    """A folder, and whether it was written just now.

    Args:
        root: The folder.
        changed: False if it was there already and nothing had to be done.
        manifest: The content of its `manifest.json`.
    """

    root: Path
    changed: bool
    manifest: dict[str, Any]


@contextmanager
def fresh_folder(root: Path) -> Iterator[Path]:
    """Gives a path for a new folder, which replaces `root` after the block; if the block fails, nothing changes.

    The block makes the folder. An old `root` goes when the new one is there.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=_remains_prefix(root)) as folder:
        # Below the temporary folder, because that one is private to the user while a data set should not be.
        fresh = Path(folder) / "fresh"
        yield fresh
        if root.exists():
            root.rename(Path(folder) / "old")
        fresh.rename(root)


def remove_remains(root: Path) -> None:
    """Deletes temporary folders of killed runs."""
    for path in root.parent.iterdir() if root.parent.is_dir() else ():
        if path.name.startswith(_remains_prefix(root)) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)


@contextmanager
def one_line_of(option: str, target: Path) -> Iterator[None]:
    """Turns disk errors into one line.

    Raises:
        UserError: The target, which the user named by `option`, cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{option} {str(target)!r} cannot be read or written ({error.strerror or error}); make room, or name a "
            "folder that you may write"
        ) from error


def refuse_overlap(option: str, target: Path, other: str, folder: Path) -> None:
    """Refuses a target inside a folder that is read, or the reverse.

    Raises:
        UserError: They lie in one another; the options name them.
    """
    first, second = (Path(os.path.realpath(path)) for path in (target, folder))
    if first == second or first in second.parents or second in first.parents:
        raise UserError(f"{option} {str(target)!r} and {other} {str(folder)!r} lie in one another; keep them apart")


def refuse_foreign_files(option: str, target: Path, manifest: dict[str, Any] | None, verb: str) -> None:
    """Refuses to replace a target with files that its manifest does not list.

    Args:
        option: How the user named the target.
        target: The folder, which need not exist.
        manifest: Its manifest; None if it has none that can be read.
        verb: What writes such folders, for example "prepare".

    Raises:
        UserError: There is such a file, the manifest is damaged, or the target is no folder.
    """
    if target.is_symlink() and not target.exists():
        raise UserError(f"{option} {str(target)!r} is a link to nothing; create its folder, or name another target")
    if target.is_file():
        raise UserError(f"{option} {str(target)!r} is a file; name a folder")
    if manifest is None and (target / MANIFEST).exists():
        raise UserError(
            f"{option} {str(target)!r} holds a {MANIFEST} that is damaged or of another program, so nobody can tell "
            "whether its files may be replaced; delete the folder if so, or name another target"
        )
    known = {MANIFEST, *manifest["outputs"]} if manifest is not None else set()
    for path in target.rglob("*") if target.is_dir() else ():
        name = path.relative_to(target).as_posix()
        if (path.is_symlink() or not path.is_dir()) and name not in known:
            raise UserError(
                f"{option} {str(target)!r} holds {name!r}, which was not written by `distill data {verb}` and would "
                "be lost; move it away or name another target"
            )


def _remains_prefix(root: Path) -> str:
    """How the names of temporary folders beside `root` begin, which nobody else gives."""
    return f".{root.name}.preparing-"
