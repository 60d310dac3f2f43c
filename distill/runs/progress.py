"""Progress of a run: a bar on a terminal, plain lines in a log, and the share of time spent waiting for data."""

import math
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from distill.phases import line_console, seconds_left
from distill.runs.estimate import Estimate, first_estimate, validations_left
from distill.evaluation.units import bare, counted, duration, shown

_RECENT = 20  # steps that the pace is the mean of
_LINES = 20  # of a run in a log, at least
_EVERY = 60.0  # seconds between two lines in a log, at most
_EVERY_SCORING = 30.0  # the same during a validation or a test
_LONG = 10.0  # seconds from which a log announces each validation
_STEPS_TO_ESTIMATE = 3
_SECONDS_TO_ESTIMATE = 60.0


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


class RunProgress(pl.Callback):
    """What is known of a run while it goes on; subclasses show it. Of several processes, one speaks.

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
        self._estimated = False
        self._durations: deque[float] = deque(maxlen=_RECENT)  # of steps, without validations
        self._images = 0  # of the step in work
        self._images_per_step = 0
        self._step_start = self._scoring_start = 0.0
        self._validation_seconds: float | None = None  # of the last one
        self._to_score = self._scored = 0

    @property
    def pace(self) -> float:
        """Seconds a step."""
        return sum(self._durations) / len(self._durations)

    @property
    def images_per_second(self) -> float:
        """Training images of all processes."""
        return self._images_per_step / self.pace

    def seconds_left(self, trainer: pl.Trainer) -> float:
        """Of the run: its steps at the recent pace, and its validations at the length of the last one."""
        validations = (self._validation_seconds or 0.0) * validations_left(trainer, self.step, self.total)
        return self.pace * (self.total - self.step) + validations

    @abstractmethod
    def show_start(self, trainer: pl.Trainer) -> None:
        """Training begins."""

    @abstractmethod
    def show_step(self, trainer: pl.Trainer) -> None:
        """A step is done."""

    @abstractmethod
    def show_scoring(self, what: str) -> None:
        """A validation or a test begins, or goes on."""

    @abstractmethod
    def show_scored(self) -> None:
        """It is done."""

    @abstractmethod
    def close(self) -> None:
        """Nothing more is shown."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Silences all processes but one."""
        self.console.quiet = not trainer.is_global_zero

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        self.step = self._first_step = trainer.global_step
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
        if self.step == self._first_step + 1:
            self._durations.clear()  # the first step warms up
        self._durations.append(now - self._step_start)
        self._step_start, self.step = now, trainer.global_step
        self._images_per_step, self._images = self._images, 0
        self.loss = float(trainer.callback_metrics.get("train/loss", math.nan))
        self.show_step(trainer)
        taken = self.step - self._first_step
        enough = min(_STEPS_TO_ESTIMATE, self.total - self._first_step)
        if not self._estimated and (taken >= enough or self.pace > _SECONDS_TO_ESTIMATE):
            self._estimated = True
            self._say(first_estimate(self._estimate(trainer, pl_module), self.suggest))

    def _estimate(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Estimate:
        return Estimate(
            step=self.pace,
            images=self._images_per_step,
            steps=self.total,
            left=self.seconds_left(trainer),
            validations=validations_left(trainer, self.step, self.total),
            device=pl_module.device,
        )

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Counts what is to be scored."""
        self._start_scoring(images_to_score(trainer, trainer.val_dataloaders, trainer.num_val_batches))

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Counts what is to be scored."""
        self._start_scoring(images_to_score(trainer, trainer.test_dataloaders, trainer.num_test_batches))

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
        """Done."""
        self.show_scored()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Done."""
        self.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leaves the terminal in order."""
        self.close()

    def _start_scoring(self, images: int) -> None:
        self._scoring_start = time.perf_counter()
        self._scored, self._to_score = 0, images
        self.show_scoring(counted(self._to_score, "image"))

    def _score_batch(self, trainer: pl.Trainer, batch: Any) -> None:
        parts = batch if isinstance(batch, list) else [batch]  # land cover: one for each size of images
        self._scored += sum(len(part["image"]) for part in parts) * trainer.world_size
        self.show_scoring(f"{min(self._scored, self._to_score)}/{counted(self._to_score, 'image')}")

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False)


def images_to_score(trainer: pl.Trainer, loaders: Any, batches: list[int | float]) -> int:
    """How many images a validation or test looks at, over all processes.

    Args:
        trainer: Knows the number of processes.
        loaders: Its loader, or several.
        batches: How many batches of each a process takes.
    """
    each = zip(loaders if isinstance(loaders, list) else [loaders], batches, strict=True)
    return sum(min(len(loader.dataset), int(count) * loader.batch_size * trainer.world_size) for loader, count in each)


class TerminalProgress(RunProgress):
    """One line that stays at the bottom: the step of the run, loss, last score, images per second, time left."""

    def __init__(self, wait: DataWait, suggest: Callable[[], str]) -> None:
        super().__init__(wait, suggest)
        self._bar: Progress | None = None
        self._run: TaskID | None = None
        self._scoring: TaskID | None = None

    def show_start(self, trainer: pl.Trainer) -> None:
        """Draws the line."""
        self._run = self._open().add_task("step", total=self.total, completed=self.step, numbers="", left="")

    def show_step(self, trainer: pl.Trainer) -> None:
        """Updates it."""
        numbers = [f"loss {self.loss:.4f}", *main_score(self.scores), f"{rate(self.images_per_second)} img/s"]
        left = f"{duration(self.seconds_left(trainer))} left"
        assert self._run is not None
        self._open().update(self._run, completed=self.step, numbers="  ".join(numbers), left=left)

    def show_scoring(self, what: str) -> None:
        """Draws a second line."""
        bar = self._open()
        if self._scoring is None:
            self._scoring = bar.add_task("scoring", total=self._to_score, numbers="", left="")
        left = ""
        if 0 < self._scored < self._to_score:
            seconds = seconds_left(time.perf_counter() - self._scoring_start, self._scored, self._to_score)
            left = f"{duration(seconds)} left"
        bar.update(self._scoring, completed=min(self._scored, self._to_score), numbers="images", left=left)

    def show_scored(self) -> None:
        """Removes it."""
        if self._bar is not None and self._scoring is not None:
            self._bar.remove_task(self._scoring)
            self._scoring = None
            if self._run is None:
                self.close()

    def close(self) -> None:
        """Leaves the last state on the screen."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._run = self._scoring = None

    def _open(self) -> Progress:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description} {task.completed:.0f}/{task.total:.0f}", table_column=_unbroken()),
                BarColumn(None),
                TextColumn("{task.fields[numbers]}", table_column=_unbroken()),
                TextColumn("{task.fields[left]}", table_column=_unbroken()),
                console=self.console,
                expand=True,
                refresh_per_second=4,
            )
            self._bar.start()
        return self._bar


def _unbroken() -> Column:
    return Column(no_wrap=True)


class PlainProgress(RunProgress):
    """Lines for logs and pipes: the first step, every twentieth of the run, at least one a minute, each validation."""

    def __init__(self, wait: DataWait, suggest: Callable[[], str]) -> None:
        super().__init__(wait, suggest)
        self._shown_at = 0.0
        self._first_scoring = True

    def show_start(self, trainer: pl.Trainer) -> None:
        """Says that training begins."""
        after = f" after step {self.step}" if self.step else ""
        self._say(f"training: {counted(self.total - self.step, 'step')}{after}")

    def show_step(self, trainer: pl.Trainer) -> None:
        """Prints a line where it is time."""
        now = time.perf_counter()
        first = self.step == self._first_step + 1
        due = self.step % math.ceil(self.total / _LINES) == 0 or self.step == self.total
        if first or due or now - self._shown_at >= _EVERY:
            self._shown_at = now
            self._say(
                "  ".join(
                    [
                        f"step {self.step}/{self.total}",
                        f"loss {self.loss:.4f}",
                        f"{self.pace:.2f} s/step",
                        f"{rate(self.images_per_second)} images/s",
                        f"data wait {self.wait.share:.0%}",
                        f"{duration(self.seconds_left(trainer))} left",
                    ]
                )
            )

    def show_scoring(self, what: str) -> None:
        """Says how many images are scored where that takes long, and how far it is."""
        now = time.perf_counter()
        if self._scored == 0:
            if self._first_scoring or (self._validation_seconds or 0.0) > _LONG:
                self._say(f"scoring {what}")
            self._first_scoring, self._shown_at = False, now
        elif now - self._shown_at >= _EVERY_SCORING and self._scored < self._to_score:
            self._shown_at = now
            left = seconds_left(now - self._scoring_start, self._scored, self._to_score)
            self._say(f"scored {what}, {duration(left)} left")

    def show_scored(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def rate(images_per_second: float) -> str:
    """With one decimal, or where that says little, two digits."""
    return f"{images_per_second:.1f}" if images_per_second >= 1 else f"{images_per_second:.2g}"


def main_score(scores: dict[str, float]) -> list[str]:
    """The one score that fits a bar: the last that a module shows, without the split and `box/` or `mask/`.

    A distillation shows `val/l1_ratio`, instances `val/mask/AP`, land cover `val/mIoU`.
    """
    wanted = [name for name in ("val/mask/AP", "val/mIoU", "val/l1_ratio") if name in scores] or list(scores)[:1]
    return [f"{bare(name).removeprefix('mask/')} {shown(name, scores[name])}" for name in wanted[:1]]


def progress_display(wait: DataWait, suggest: Callable[[], str]) -> RunProgress:
    """The display that fits where the output goes."""
    return (TerminalProgress if Console().is_terminal else PlainProgress)(wait, suggest)
