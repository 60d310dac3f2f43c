"""Progress of a fit: a rich bar on a terminal, plain lines in a log, and the share of time spent waiting for data."""

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from rich.console import Console


class DataWait(pl.Callback):
    """Measures which share of the training time the loop waits for batches, and logs it as `data_wait`."""

    def __init__(self) -> None:
        self.waited = 0.0
        self.worked = 0.0
        self._mark: float | None = None

    @property
    def share(self) -> float:
        """Waiting over all training time so far, 0 to 1."""
        return self.waited / max(self.waited + self.worked, 1e-9)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        """The batch is here."""
        now = time.perf_counter()
        if self._mark is not None:
            self.waited += now - self._mark
        self._mark = now

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """The step is done."""
        now = time.perf_counter()
        assert self._mark is not None
        self.worked += now - self._mark
        self._mark = now
        pl_module.log("data_wait", self.share)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validation is not waiting for training data."""
        if self._mark is not None:
            self._mark = time.perf_counter()


class RichProgress(RichProgressBar):
    """Lightning's rich bar, with the data wait and without the version number."""

    def __init__(self, wait: DataWait) -> None:
        super().__init__()
        self._wait = wait

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch}"  # runs are limited by steps, and Lightning would show "Epoch 3/-2"

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Metrics shown beside the bar."""
        items: dict[str, Any] = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        return items | {"data wait": f"{self._wait.share:.0%}"}


class PlainProgress(pl.Callback):
    """One line every twentieth of the run and after every validation, for logs and pipes.

    Args:
        wait: Where the data wait is read from.
    """

    def __init__(self, wait: DataWait) -> None:
        self._wait = wait
        self._console = Console(soft_wrap=True, highlight=False)
        self._start = time.perf_counter()
        self._first_step = 0
        self._shown = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock; of several processes, one speaks."""
        self._console.quiet = not trainer.is_global_zero
        self._start = time.perf_counter()
        self._first_step = self._shown = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Prints a line when a twentieth is done."""
        total = int(trainer.estimated_stepping_batches)
        step = trainer.global_step
        if step % max(1, total // 20) == 0 and step > self._shown:  # accumulating, several batches end at one step
            self._shown = step
            pace = (time.perf_counter() - self._start) / (step - self._first_step)
            remaining = pace * (total - step)
            loss = float(trainer.callback_metrics.get("train/loss", float("nan")))
            self._console.print(
                f"step {step}/{total}  loss {loss:.4f}  {pace:.2f} s/step  data wait {self._wait.share:.0%}  "
                f"{remaining:.0f} s left"
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prints what validation found."""
        if trainer.sanity_checking:
            return
        shown = {k: v for k, v in trainer.progress_bar_metrics.items() if k.startswith("val/")}
        if shown:
            values = "  ".join(f"{k} {float(v):.4f}" for k, v in shown.items())
            self._console.print(f"step {trainer.global_step}  {values}")


def progress_bar(wait: DataWait) -> pl.Callback:
    """The bar that fits where the output goes."""
    return RichProgress(wait) if Console().is_terminal else PlainProgress(wait)
