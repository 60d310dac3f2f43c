"""Starting over in a folder that holds a run: the old one stays whole until the new one is there to take its place."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from distill.runs.folder import SCORES

# Everything that a run writes into its folder; anything else there is the user's.
_WRITTEN = (
    "checkpoints",
    "student.safetensors",
    "summary.json",
    "card.md",
    "metrics.csv",
    "recipe.yaml",
    "environment.json",
    "wandb",
    "wandb.json",
    *SCORES,
)
# The three states of an old run that goes: some of its files moved in, all of them, and the new run in its place.
_LEAVING, _LEFT, _REPLACED = ".leaving", ".left", ".replaced"
_STAGED = ".staged"


def staged(folder: Path) -> Path:
    """Where the new run's first checkpoint waits."""
    return folder / _STAGED / "last.ckpt"


def discard_staged(folder: Path) -> None:
    """Removes a first checkpoint whose run did not come to take the old one's place."""
    shutil.rmtree(folder / _STAGED, ignore_errors=True)


def replace(folder: Path, write: Callable[[], None]) -> None:
    """Puts a new run in the place of whatever an earlier one left in the folder.

    A process that is killed in between leaves what `recover` turns into one of the two.

    Args:
        folder: The run folder.
        write: Writes the new run's first files; its first checkpoint may be `staged`.
    """
    (folder / _LEAVING).mkdir()
    try:
        for path in _present(folder):
            path.rename(folder / _LEAVING / path.name)
        (folder / _LEAVING).rename(folder / _LEFT)
        if (folder / _STAGED).exists():
            (folder / _STAGED).rename(folder / "checkpoints")
        write()
    except BaseException:
        recover(folder)
        raise
    (folder / _LEFT).rename(folder / _REPLACED)
    shutil.rmtree(folder / _REPLACED, ignore_errors=True)


def recover(folder: Path) -> None:
    """Ends what a killed process began: brings an old run back, or deletes it where the new one has taken its place."""
    if (folder / _LEFT).exists():
        for path in _present(folder):  # the new run's
            _remove(path)
        (folder / _LEFT).rename(folder / _LEAVING)
    if (folder / _LEAVING).exists():
        for path in (folder / _LEAVING).iterdir():
            path.rename(folder / path.name)
        (folder / _LEAVING).rmdir()
    shutil.rmtree(folder / _REPLACED, ignore_errors=True)


def _present(folder: Path) -> Iterator[Path]:
    return (folder / name for name in _WRITTEN if (folder / name).exists())


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
