"""checkpoints/last.ckpt, from which a run goes on as if it had never stopped."""

import signal
import threading
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from distill.errors import Stopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; Slurm and containers


class LastCheckpoint(ModelCheckpoint):
    """Writes last.ckpt every so many optimizer steps, after every validation, and when the run is stopped.

    After a validation, because Lightning writes the one of the same step before it: a run that went on from there would
    not know the score, and take a worse model for its best. Must stand behind the callback that keeps the best, whose
    state is in the file.

    A run that is told to stop finishes its step; told again, it stops at once. Of several processes each would stop at
    a step of its own, so those stop at once.

    Args:
        folder: Where checkpoints lie.
        every: Optimizer steps between two writes.
    """

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(folder, "last", every_n_train_steps=every, enable_version_counter=False)
        self.path = folder / "last.ckpt"
        self._stopping = False
        self._step = -1
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listens for the signals that stop a run."""
        super().on_train_start(trainer, pl_module)
        self._step = trainer.global_step
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._stop) for number in _SIGNALS}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        """Writes it where it is time; stops where that was asked for and an optimizer step is complete."""
        super().on_train_batch_end(trainer, pl_module, *rest)
        if self._stopping and trainer.global_step > self._step:
            trainer.save_checkpoint(self.path)
            run = self.path.parents[1]
            raise Stopped(
                f"stopped at step {trainer.global_step}; go on with: distill fit {run}/recipe.yaml --ckpt_path last"
            )
        self._step = trainer.global_step

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes it again, unless the validation was one on its own."""
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Listens no longer."""
        self._restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Listens no longer."""
        self._restore()

    def _stop(self, number: int, frame: object) -> None:
        self._stopping = True
        self._restore()  # the second time it stops at once

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
