"""checkpoints/last.ckpt, from which a run resumes exactly. Only this callback writes it."""

import shlex
import signal
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from distill.errors import Preempted, Stopped
from distill.runs.folder import RunFolder
from distill.runs.stop_request import StopRequest


class LastCheckpoint(Checkpoint):
    """Writes last.ckpt every so many optimizer steps, after every validation, and when the run is stopped or ends.

    Only where an optimizer step is complete, and after the validation of a step that has one: a run that went on from
    before it would skip the validation, and take a worse model for its best. Must come after the callback that keeps
    the best, whose state is in the file. At the end of training this is too late, since EMA has replaced the weights
    by then; `FinishRun`, which comes first, calls `save` there.

    On the first signal a run finishes its step, several processes the same one, and one or two steps more until all
    know of it; on a second one after that it stops at once.

    Args:
        folder: The run folder.
        every: Optimizer steps between two writes.
    """

    def __init__(self, folder: RunFolder, every: int) -> None:
        self.folder = folder
        self.every = every
        self._complete = False
        self._step = -1
        self._request = StopRequest()
        self._signal = 0  # that asked the run to stop

    def save(self, trainer: pl.Trainer, path: Path | None = None) -> None:
        """Writes the training state.

        Args:
            trainer: Training, or at the end of it.
            path: The file; by default last.ckpt.

        Raises:
            UserError: The disk is full, read-only or gone.
        """
        if path is None and trainer.is_global_zero:  # which writes; others need not see its disk
            self.folder.require_there()
        trainer.save_checkpoint(path or self.folder.last)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Installs handlers of the signals that stop a run."""
        self._step = trainer.global_step
        self._request.watch()

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Counts an epoch as begun where Lightning does not: the first one after a checkpoint of an epoch's end.

        A run that goes on from a checkpoint inside of that epoch would begin the epoch again, with more steps in all
        (Lightning 2.6, `FitLoop.on_advance_start` after `reset`).
        """
        progress = trainer.fit_loop.epoch_progress
        trackers: tuple[Any, ...] = (progress.total, progress.current)  # typed as their bases, which lack fields
        for epochs in trackers:
            epochs.ready = epochs.started = epochs.processed + 1

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        """Writes it when due, and stops the run after a signal."""
        self._complete = trainer.global_step > self._step  # else gradients are being accumulated
        self._step = trainer.global_step
        if not self._complete:
            return
        self._signal = self._request.poll()
        loop = trainer.fit_loop
        assert loop._data_fetcher is not None
        if loop.epoch_loop._should_check_val_fx(loop._data_fetcher):
            return
        if self._signal or self._step % self.every == 0:
            self._write(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes it, unless the validation was one on its own."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and self._complete:
            self._signal = self._request.poll()
            self._write(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restores signal handlers."""
        self._request.end()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restores signal handlers."""
        self._request.end()

    def _write(self, trainer: pl.Trainer) -> None:
        self.save(trainer)
        if self._signal:
            recipe = shlex.quote(str(self.folder.recipe))
            kind = Preempted if self._signal == signal.SIGTERM else Stopped
            raise kind(f"stopped at step {trainer.global_step}; go on with: distill fit {recipe} --ckpt_path last")
