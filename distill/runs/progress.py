"""The progress of a run: its step, pace, scores, and remaining time."""

import math
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from distill.data.size_schedule import SizeSchedule
from distill.data.views.tiles import InstanceTiles
from distill.evaluation.units import counted, shown
from distill.phases import line_console
from distill.runs.data_wait import DataWait
from distill.runs.estimate import Estimate, first_estimate, validations_left

_RECENT = 20  # steps that the pace is the mean of
_STEPS_TO_ESTIMATE = 3
_SECONDS_TO_ESTIMATE = 60.0


class RunProgress(pl.Callback):
    """The progress of a run; subclasses show it. Of several processes, only the first prints.

    Args:
        wait: Where the data wait is read from.
        suggest: Names a smaller run, for one that takes long; asked only then.
    """

    def __init__(self, wait: DataWait, suggest: Callable[[], str]) -> None:
        self.wait = wait
        self.suggest = suggest
        self.console = line_console()
        self.step = self.total = 0
        self.loss = math.nan
        self.scores: dict[str, float] = {}
        self._first_step = 0
        self._sizes: SizeSchedule | None = None
        self._size_since = 0  # the step that training, or the present size of views, begins after
        self._estimated = False
        self._durations: deque[float] = deque(maxlen=_RECENT)  # of steps of one size, without validations
        self._images = 0  # of the step in work
        self._images_per_step = 0
        self._step_start = self._scoring_start = 0.0
        self._validation_seconds: float | None = None  # of the last one
        self._to_score = self._scored = 0
        self._unit = "image"  # of what is scored

    @property
    def pace(self) -> float:
        """Seconds per step."""
        return sum(self._durations) / len(self._durations)

    @property
    def is_settled(self) -> bool:
        """Whether enough steps were timed to estimate the time left; the first one warms up."""
        enough = min(_STEPS_TO_ESTIMATE, self.total - self._size_since)
        return self.step - self._size_since >= enough or self.pace > _SECONDS_TO_ESTIMATE

    @property
    def images_per_second(self) -> float:
        """Training images a second, over all processes."""
        return self._images_per_step / self.pace

    def seconds_left(self, trainer: pl.Trainer) -> float:
        """Seconds left: the steps at the recent pace, and the validations at the length of the last one."""
        validations = (self._validation_seconds or 0.0) * validations_left(trainer, self.step, self.total)
        return self.pace * self._steps_alike(self.step) + validations

    @abstractmethod
    def show_start(self, trainer: pl.Trainer) -> None:
        """Called when training begins."""

    @abstractmethod
    def show_step(self, trainer: pl.Trainer) -> None:
        """Called after each step."""

    @abstractmethod
    def show_scoring(self, what: str) -> None:
        """Called when a validation or a test begins, and while it runs."""

    @abstractmethod
    def show_scored(self) -> None:
        """Called when a validation or a test ends."""

    @abstractmethod
    def close(self) -> None:
        """Called when nothing more is shown."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Silences all processes but one."""
        self.console.quiet = not trainer.is_global_zero

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        self.step = self._first_step = self._size_since = trainer.global_step
        self._sizes = trainer.datamodule.sizes  # type: ignore[attr-defined]
        self.total = int(trainer.estimated_stepping_batches)
        self._step_start = time.perf_counter()
        self.show_start(trainer)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        """Counts images."""
        self._images += len(batch["image"]) * trainer.world_size

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Takes the time of a step, which with gradient accumulation has several batches."""
        if trainer.global_step == self.step:
            return
        now = time.perf_counter()
        if self.step in (self._size_since, self._size_since + 1):
            self._durations.clear()  # those of another size; the first step warms up
        self._durations.append(now - self._step_start)
        self._step_start, self.step = now, trainer.global_step
        self._images_per_step, self._images = self._images, 0
        self.loss = float(trainer.callback_metrics.get("train/loss", math.nan))
        self.show_step(trainer)
        if not self._estimated and self.is_settled:
            self._estimated = True
            self._say(first_estimate(self._estimate(trainer, pl_module), self.suggest))
        if self._sizes and self.step < self.total and self._sizes.at(self.step) != self._sizes.at(self.step - 1):
            self._size_since, self._estimated = self.step, False
            self._say(f"step {self.step}: views of {self._sizes.at(self.step)} px from here on")

    def _steps_alike(self, first: int) -> float:
        """Of steps like the last one, as many as have the pixels of the steps from `first` to the end of the run."""
        if self._sizes is None:
            return self.total - first
        side = self._sizes.at(self.step - 1)
        return sum(count * (size / side) ** 2 for size, count in self._sizes.parts(first, self.total))

    def _estimate(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Estimate:
        changing = self._sizes is not None and len(self._sizes.parts(self.step - 1, self.total)) > 1
        return Estimate(
            step=self.pace,
            images=self._images_per_step,
            steps=self.total,
            left=self.seconds_left(trainer),
            validations=validations_left(trainer, self.step, self.total),
            device=pl_module.device,
            side=self._sizes.at(self.step - 1) if self._sizes and changing else None,
            alike=self._steps_alike(0),
        )

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Counts what is to be scored."""
        self._start_scoring(trainer, trainer.val_dataloaders, trainer.num_val_batches)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Counts what is to be scored."""
        self._start_scoring(trainer, trainer.test_dataloaders, trainer.num_test_batches)

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        """Counts what is scored."""
        self._score_batch(trainer, rest[1])

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        """Counts what is scored."""
        self._score_batch(trainer, rest[1])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Shows what validation found; its time is not that of a step."""
        seconds = time.perf_counter() - self._scoring_start
        self._step_start += seconds
        self._validation_seconds = seconds
        found = {k: float(v) for k, v in trainer.progress_bar_metrics.items() if k.startswith("val/")}
        self.scores |= found
        self.show_scored()
        if found and trainer.state.fn == "fit" and not trainer.sanity_checking:  # else a table comes
            values = "  ".join(f"{name} {shown(name, value)}" for name, value in found.items())
            self._say(f"step {trainer.global_step}  {values}")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends the display of the test."""
        self.show_scored()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Closes the display."""
        self.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Closes the display, so that the terminal stays in order."""
        self.close()

    def _start_scoring(self, trainer: pl.Trainer, loaders: Any, batches: list[int | float]) -> None:
        self._scoring_start = time.perf_counter()
        samples = _samples(trainer, loaders, batches)
        self._unit = "tile" if any(isinstance(data, InstanceTiles) for data, _ in samples) else "image"
        self._scored, self._to_score = 0, sum(count for _, count in samples)
        self.show_scoring(counted(self._to_score, self._unit))

    def _score_batch(self, trainer: pl.Trainer, batch: Any) -> None:
        parts = batch if isinstance(batch, list) else [batch]  # land cover: one for each size of images
        self._scored += sum(len(part["image"]) for part in parts) * trainer.world_size
        self.show_scoring(f"{min(self._scored, self._to_score)}/{counted(self._to_score, self._unit)}")

    def _say(self, text: str) -> None:
        self.console.print(text)


def images_to_score(trainer: pl.Trainer, loaders: Any, batches: list[int | float]) -> int:
    """How many images a validation or test looks at, over all processes, if only at some of their tiles.

    Args:
        trainer: Knows the number of processes.
        loaders: Its loader, or several.
        batches: How many batches of each a process takes.
    """
    each = _samples(trainer, loaders, batches)
    return sum(data.images_among(count) if isinstance(data, InstanceTiles) else count for data, count in each)


def _samples(trainer: pl.Trainer, loaders: Any, batches: list[int | float]) -> list[tuple[Any, int]]:
    """What each loader reads, and how much of it."""
    each = zip(loaders if isinstance(loaders, list) else [loaders], batches, strict=True)
    return [(one.dataset, min(len(one.dataset), int(n) * one.batch_size * trainer.world_size)) for one, n in each]
