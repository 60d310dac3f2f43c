"""Replaces the run in a folder by a new one; the old run stays complete until then."""

import shutil
from collections.abc import Callable
from pathlib import Path

from distill.runs.folder import RunFolder

# The three states of an old run that is replaced: some of its files moved, all moved, and the new run in its place.
_LEAVING, _LEFT, _REPLACED = ".leaving", ".left", ".replaced"
_STAGED = ".staged"


def staged(folder: RunFolder) -> Path:
    """Where the new run's first checkpoint waits."""
    return folder.path / _STAGED / folder.LAST


def discard_staged(folder: RunFolder) -> None:
    """Removes a first checkpoint whose run has not replaced the old one."""
    shutil.rmtree(folder.path / _STAGED, ignore_errors=True)


def replace(folder: RunFolder, write: Callable[[], None]) -> None:
    """Replaces what an earlier run left in the folder by a new run.

    A process that is killed in between leaves what `recover` turns into one of the two.

    Args:
        folder: The run folder.
        write: Writes the new run's first files; its first checkpoint may be `staged`.
    """
    leaving, left, replaced, first = (folder.path / name for name in (_LEAVING, _LEFT, _REPLACED, _STAGED))
    leaving.mkdir()
    try:
        for path in filter(Path.exists, folder.written()):
            path.rename(leaving / path.name)
        leaving.rename(left)
        if first.exists():
            first.rename(folder.checkpoints)
        write()
    except BaseException:
        recover(folder)
        raise
    left.rename(replaced)
    shutil.rmtree(replaced, ignore_errors=True)


def recover(folder: RunFolder) -> None:
    """Completes a replacement that a killed process began: restores the old run, or deletes it."""
    leaving, left, replaced = (folder.path / name for name in (_LEAVING, _LEFT, _REPLACED))
    if left.exists():
        for path in filter(Path.exists, folder.written()):  # the new run's
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        left.rename(leaving)
    if leaving.exists():
        for path in leaving.iterdir():
            path.rename(folder.path / path.name)
        leaving.rmdir()
    shutil.rmtree(replaced, ignore_errors=True)
