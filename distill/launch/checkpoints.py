"""Which training checkpoint a command resumes from, or scores."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from distill.errors import UserError
from distill.runs.checkpoint_io import last_checkpoint
from distill.runs.folder import RunFolder
from distill.weights import read_training_step

NAMED = ("last", "best")  # checkpoints that need no path


@dataclass(frozen=True)
class StoredState:
    """A training checkpoint.

    Attributes:
        path: The file.
        step: Optimizer steps that were taken.
        own: Whether it is one of the run's own folder.
    """

    path: Path
    step: int
    own: bool

    @property
    def name(self) -> str:
        """How reports call it."""
        return self.path.name if self.own else str(self.path)


def checkpoint_file(folder: RunFolder, given: str | PathLike[str]) -> Path:
    """The file that "last", "best" or a path names, which need not exist; of a damaged last.ckpt the one before.

    Raises:
        UserError: Both are damaged.
    """
    path = folder.checkpoints / f"{given}.ckpt" if given in NAMED else Path(given)
    return (last_checkpoint(folder.checkpoints) or path) if given == "last" else path


def stored_state(folder: RunFolder, given: str, recipe: str) -> StoredState:
    """The checkpoint that "last", "best" or a path names; for a damaged last.ckpt the one before it.

    Args:
        folder: The run folder.
        given: As in `ckpt_path`.
        recipe: Its name, for the error message.

    Raises:
        UserError: There is no such file, or it is damaged.
    """
    path = checkpoint_file(folder, given)
    if not path.is_file():
        way_out = f"run `distill fit {recipe}` first" if given in NAMED else "give last, best or a file as --ckpt_path"
        raise UserError(f"there is no checkpoint {path}; {way_out}")
    return StoredState(path, read_training_step(path), path.resolve().parent == folder.checkpoints.resolve())
