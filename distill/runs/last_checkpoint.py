"""checkpoints/last.ckpt, from which a run resumes exactly. Only this callback writes it."""

import shlex
import signal
import threading
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from distill.errors import Stopped
from distill.runs.folder import RunFolder

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; Slurm and containers


class LastCheckpoint(Checkpoint):
    """Writes last.ckpt every so many optimizer steps, after every validation, and when the run is stopped or ends.

    Only where an optimizer step is complete, and after the validation of a step that has one: a run that went on from
    before it would skip the validation, and take a worse model for its best. Must come after the callback that keeps
    the best, whose state is in the file. At the end of training this is too late, since EMA has replaced the weights
    by then; `FinishRun`, which comes first, calls `save` there.

    On the first signal a run finishes its step, on the second it stops at once. Of several processes each would stop at
    a step of its own, so those stop at once.

    Args:
        folder: The run folder.
        every: Optimizer steps between two writes.
    """

    def __init__(self, folder: RunFolder, every: int) -> None:
        self.folder = folder
        self.every = every
        self._stopping = self._complete = False
        self._step = -1
        self._handlers: dict[int, Any] = {}

    def save(self, trainer: pl.Trainer, path: Path | None = None) -> None:
        """Writes the training state.

        Args:
            trainer: Training, or at the end of it.
            path: The file; by default last.ckpt.
        """
        trainer.save_checkpoint(path or self.folder.last)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Installs handlers of the signals that stop a run."""
        self._step = trainer.global_step
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._stop) for number in _SIGNALS}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        """Writes it when due, and stops the run after a signal."""
        self._complete = trainer.global_step > self._step  # else gradients are being accumulated
        self._step = trainer.global_step
        loop = trainer.fit_loop
        assert loop._data_fetcher is not None
        if not self._complete or loop.epoch_loop._should_check_val_fx(loop._data_fetcher):
            return
        if self._stopping or self._step % self.every == 0:
            self._write(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes it, unless the validation was one on its own."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and self._complete:
            self._write(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restores signal handlers."""
        self._restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restores signal handlers."""
        self._restore()

    def _write(self, trainer: pl.Trainer) -> None:
        self.save(trainer)
        if self._stopping:
            recipe = shlex.quote(str(self.folder.recipe))
            raise Stopped(f"stopped at step {trainer.global_step}; go on with: distill fit {recipe} --ckpt_path last")

    def _stop(self, number: int, frame: object) -> None:
        self._stopping = True
        self._restore()  # the second time it stops at once

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
