"""Which training checkpoint a command goes on from, or scores."""

from dataclasses import dataclass
from pathlib import Path

from distill.errors import UserError
from distill.runs.checkpoint_io import last_checkpoint
from distill.runs.folder import RunFolder
from distill.weights import read_training_step

_NAMED = ("last", "best")


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


def stored_state(folder: RunFolder, given: str, recipe: str) -> StoredState:
    """The checkpoint that "last", "best" or a path names; in place of a damaged last.ckpt the one before it.

    Args:
        folder: The run folder.
        given: As in `ckpt_path`.
        recipe: As it was named, for the way out.

    Raises:
        UserError: There is no such file, or it is damaged.
    """
    path = folder.checkpoints / f"{given}.ckpt" if given in _NAMED else Path(given)
    if given == "last":
        path = last_checkpoint(folder.checkpoints) or path
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}; run `distill fit {recipe}` first, or pass --ckpt_path")
    return StoredState(path, read_training_step(path), path.resolve().parent == folder.checkpoints.resolve())
