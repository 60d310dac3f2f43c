"""A fit changes its folder only after its first step.

Whatever fails before, such as data that cannot be read or too little memory, leaves an earlier run as it was.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from distill.runs.folder import RunFolder
from distill.runs.metadata import environment
from distill.runs.replacement import discard_staged, replace, staged


class FirstStep(pl.Callback):
    """Opens the run folder after the first optimizer step: recipe, environment, loggers.

    A fresh run takes the place of an earlier one, and has its first checkpoint from the start, so that a process killed
    at any time leaves one of the two. A resumed run removes scores, which are those of other weights from now on.

    Must come after callbacks that have a state and before those that write checkpoints.

    Args:
        folder: The run folder.
        recipe: The resolved recipe as YAML.
        resumed: Whether the run in the folder goes on.
        save: Writes the training state to a path, see `distill.runs.last_checkpoint`.
        open_loggers: Opens the loggers, whose files are in the folder.
    """

    def __init__(
        self,
        folder: RunFolder,
        recipe: str,
        resumed: bool,
        save: Callable[[pl.Trainer, Path], None],
        open_loggers: Callable[[pl.Trainer], None],
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.resumed = resumed
        self.save = save
        self.open_loggers = open_loggers
        self._opened = False
        self._replaces = not resumed and folder.holds_weights
        self._start = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remembers where training starts."""
        self._start = trainer.global_step
        if trainer.is_global_zero:
            discard_staged(self.folder)  # of a process that was killed

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Opens the folder once a step is complete."""
        if self._opened or trainer.global_step == self._start:
            return
        if self._replaces:
            self.save(trainer, staged(self.folder))
        self.open_folder(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Removes what was written; if the user stopped the run, the message says so."""
        if self._opened or not trainer.is_global_zero:
            return
        discard_staged(self.folder)
        empty = not any(self.folder.path.iterdir())
        if empty:
            self.folder.path.rmdir()
        if isinstance(exception, KeyboardInterrupt):
            left = "nothing was written" if empty else f"{self.folder} is as it was"
            exception.args = (f"stopped before the first step; {left}",)

    def open_folder(self, trainer: pl.Trainer) -> None:
        """Opens the folder, where that has not been done."""
        if self._opened:
            return
        self._opened = True
        if trainer.is_global_zero and self.resumed:
            self.folder.clear_scores()
            self._write()
        elif trainer.is_global_zero:
            replace(self.folder, self._write)
        self.open_loggers(trainer)

    def _write(self) -> None:
        began = self.folder.read_environment() if self.resumed else {}
        self.folder.begin(self.recipe, {**environment(), **{key: began[key] for key in ("started",) if key in began}})
