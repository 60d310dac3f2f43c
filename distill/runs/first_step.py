"""What a fit changes in its folder, it changes when its first step has been taken.

Whatever fails before, such as data that cannot be read or too little memory, leaves an earlier run as it was.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger

from distill.runs.loggers import WaitingLogger
from distill.runs.replacement import discard_staged, replace, staged
from distill.files import write_json, write_text
from distill.runs.folder import clear_scores, environment, holds_run


class FirstStep(pl.Callback):
    """Opens the run folder after the first optimizer step: recipe, environment, loggers.

    A fresh run takes the place of an earlier one, and has its first checkpoint from the start, so that a process killed
    at any time leaves one of the two. A resumed run removes scores, which are those of other weights from now on.

    Must stand behind callbacks that have a state and before those that write checkpoints.

    Args:
        folder: The run folder.
        recipe: The resolved recipe as YAML.
        resumed: Whether the run in the folder goes on.
        loggers: Opens the loggers; None for none.
    """

    def __init__(self, folder: Path, recipe: str, resumed: bool, loggers: Callable[[], list[Logger]] | None) -> None:
        self.folder = folder
        self.recipe = recipe
        self.resumed = resumed
        self.loggers = loggers
        self.taken = False
        self._replaces = not resumed and holds_run(folder)
        self._start = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remembers where training starts."""
        self._start = trainer.global_step
        if trainer.is_global_zero:
            discard_staged(self.folder)  # of a process that was killed

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Opens the folder once a step is complete."""
        if self.taken or trainer.global_step == self._start:
            return
        if self._replaces:
            trainer.save_checkpoint(staged(self.folder))
        self.open(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leaves nothing behind, and says so where the user stopped the run."""
        if self.taken or not trainer.is_global_zero:
            return
        discard_staged(self.folder)
        empty = not any(self.folder.iterdir())
        if empty:
            self.folder.rmdir()
        if isinstance(exception, KeyboardInterrupt):
            left = "nothing was written" if empty else f"{self.folder} is as it was"
            exception.args = (f"stopped before the first step; {left}",)

    def open(self, trainer: pl.Trainer) -> None:
        """Opens the folder, where that has not been done."""
        if self.taken:
            return
        self.taken = True
        if trainer.is_global_zero and self.resumed:
            clear_scores(self.folder)
            self._write()
        elif trainer.is_global_zero:
            replace(self.folder, self._write)
        if self.loggers is not None:
            early = [logger for logger in trainer.loggers if isinstance(logger, WaitingLogger)]
            trainer.loggers = self.loggers()
            for logger in early:
                logger.pass_on(trainer.loggers)

    def _write(self) -> None:
        write_text(self.folder / "recipe.yaml", self.recipe)
        write_json(self.folder / "environment.json", environment() | {"started_in": str(Path.cwd())})
