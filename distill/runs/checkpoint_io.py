"""Atomic writing of training checkpoints, with an earlier one kept beside `last.ckpt`."""

import logging
import zipfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from distill.errors import UserError
from distill.files import write_atomically
from distill.runs.folder import RunFolder
from distill.weights import read_training_step

logger = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes into the checkpoint's own folder, syncs, then renames.

    Lightning's own writes elsewhere and moves, which between file systems copies onto the old file: where the disk is
    full, both are lost. What `last.ckpt` held is kept as `previous.ckpt` when a later step takes its place.
    """

    def __init__(self) -> None:
        self._steps: dict[Path, int] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint.

        Raises:
            UserError: The place cannot be written, or the disk is full; what was there before is kept.
        """
        path, step = Path(path), checkpoint["global_step"]

        def write(temporary: Path) -> None:
            try:
                with temporary.open("wb") as file:  # given a path, torch does not say why it fails
                    torch.save(checkpoint, file)
            except RuntimeError as error:  # of its writer, which cannot end the file after a failure
                raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
            # The same step written again, after its validation, does not replace an earlier one.
            if path.name == RunFolder.LAST and path.is_file() and self._steps.get(path) != step:
                _keep(path)

        for stale in path.parent.glob(f".{path.name}.*"):  # of a process that was killed while it wrote
            stale.unlink(missing_ok=True)
        write_atomically(path, write)
        self._steps[path] = step


def _keep(path: Path) -> None:
    """Links `last.ckpt` as `previous.ckpt`, which stays when `last.ckpt` is replaced."""
    previous = path.with_name(RunFolder.PREVIOUS)
    previous.unlink(missing_ok=True)
    try:
        previous.hardlink_to(path)
    except OSError:  # a file system without links
        path.replace(previous)


def last_checkpoint(folder: Path) -> Path | None:
    """`last.ckpt` of a folder of checkpoints; if it is damaged or missing, `previous.ckpt`, with a warning.

    Returns:
        The path, or None where there is neither.

    Raises:
        UserError: Both are damaged.
    """
    last, previous = folder / RunFolder.LAST, folder / RunFolder.PREVIOUS
    if not last.is_file() and not previous.is_file():
        return None
    try:
        require_whole(last)
    except UserError as error:
        if not previous.is_file():
            raise
        require_whole(previous)
        logger.warning("%s; using %s of step %d instead", error, previous.name, read_training_step(previous))
        return previous
    return last


def require_whole(path: Path) -> None:
    """Reads a training checkpoint once, with its checksums.

    Raises:
        UserError: The file is missing, damaged or no training checkpoint.
    """
    read_training_step(path)
    if zipfile.is_zipfile(path):  # as torch.save writes; torch.load does not compare checksums
        with zipfile.ZipFile(path) as content:
            damaged = content.testzip()
        if damaged:
            raise UserError(f"checkpoint {str(path)!r} cannot be read ({damaged} is damaged)")
