"""How the progress of a run is shown: a bar on a terminal and in a notebook, plain lines in a log."""

import math
import time
from collections.abc import Callable

import pytorch_lightning as pl
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from distill.evaluation.metrics import bare, is_probe
from distill.evaluation.units import counted, duration, shown
from distill.phases import line_console, seconds_left, shows_bars
from distill.runs.data_wait import DataWait
from distill.runs.progress import RunProgress

_LINES = 20  # of a run in a log, at least
_EVERY = 60.0  # seconds between two lines in a log, at most
_EVERY_SCORING = 30.0  # the same during a validation or a test
_LONG = 10.0  # seconds from which a log announces each validation


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
        left = f"{duration(self.seconds_left(trainer))} left" if self.is_settled else ""
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
        bar.update(self._scoring, completed=min(self._scored, self._to_score), numbers=f"{self._unit}s", left=left)

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
        """Prints that training begins."""
        after = f" after step {self.step}" if self.step else ""
        self._say(f"training: {counted(self.total - self.step, 'step')}{after}")

    def show_step(self, trainer: pl.Trainer) -> None:
        """Prints a line when one is due."""
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
                        *([f"{duration(self.seconds_left(trainer))} left"] if self.is_settled else []),
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
        """Prints nothing."""

    def close(self) -> None:
        """Prints nothing."""


def rate(images_per_second: float) -> str:
    """A rate with one decimal, or with two digits if it is small."""
    return f"{images_per_second:.1f}" if images_per_second >= 1 else f"{images_per_second:.2g}"


def main_score(scores: dict[str, float]) -> list[str]:
    """What fits a bar: one score without the split and `box/` or `mask/`, and one of a distillation's probes.

    A distillation shows `val/l1_ratio`, instances `val/mask/AP`, land cover `val/mIoU`.
    """
    wanted = [name for name in ("val/mask/AP", "val/mIoU", "val/l1_ratio") if name in scores] or list(scores)[:1]
    probed = [name for name in scores if is_probe(name) and name not in wanted]
    return [f"{bare(name).removeprefix('mask/')} {shown(name, scores[name])}" for name in (*wanted[:1], *probed[:1])]


def progress_display(wait: DataWait, suggest: Callable[[], str]) -> RunProgress:
    """The display that fits where the output goes."""
    return (TerminalProgress if shows_bars(line_console()) else PlainProgress)(wait, suggest)
