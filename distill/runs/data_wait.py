"""The share of training time that is spent waiting for data."""

import time
from typing import Any

import pytorch_lightning as pl


class DataWait(pl.Callback):
    """Measures which share of the training time the loop waits for batches, and logs it as `data_wait`."""

    def __init__(self) -> None:
        self.waited = 0.0
        self.worked = 0.0
        self._mark: float | None = None

    @property
    def share(self) -> float:
        """Waiting time as a fraction of the training time so far, 0 to 1."""
        return self.waited / max(self.waited + self.worked, 1e-9)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        """Ends the waiting time."""
        now = time.perf_counter()
        if self._mark is not None:
            self.waited += now - self._mark
        self._mark = now

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Starts the waiting time."""
        now = time.perf_counter()
        assert self._mark is not None
        self.worked += now - self._mark
        self._mark = now
        pl_module.log("data_wait", self.share)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restarts the waiting time, because validation does not wait for training data."""
        if self._mark is not None:
            self._mark = time.perf_counter()
