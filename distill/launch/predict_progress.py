"""Tells how far a prediction is: a bar on a terminal, a line every half minute in a log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from distill.phases import line_console, seconds_left, shows_bars

_EVERY = 30.0  # seconds between two lines in a log


class PredictProgress:
    """Counts tiles and objects of all scenes.

    How many tiles there are is known of the scenes that were opened; the others count as their mean.

    Args:
        scenes: How many there are.
        console: Where it is told.
        bar: The bar on a terminal; None in a log.
    """

    def __init__(self, scenes: int, console: Console, bar: Progress | None) -> None:
        self._scenes, self._console, self._bar = scenes, console, bar
        self._opened = self._planned = self._tiles = self._objects = 0
        self._name = ""
        self._start = self._spoken = time.perf_counter()
        self._task = bar.add_task("", total=None, numbers="") if bar is not None else None

    def begin(self, name: str, tiles: int) -> None:
        """A scene begins.

        Args:
            name: Of the scene.
            tiles: How many of its tiles are still to be predicted.
        """
        self._name, self._opened, self._planned = name, self._opened + 1, self._planned + tiles
        self._show()

    def advance(self, tiles: int, objects: int) -> None:
        """Some tiles are done."""
        self._tiles, self._objects = self._tiles + tiles, self._objects + objects
        self._show()

    def say(self, line: str) -> None:
        """Prints a message above the bar."""
        self._console.print(Text(line))

    def _show(self) -> None:
        total = round(self._planned / self._opened * self._scenes)
        numbers = f"{self._tiles}/{total} tiles" + (f", {self._objects:,} objects" if self._objects else "")
        scene = f"{self._name} ({self._opened}/{self._scenes})" if self._scenes > 1 else self._name
        now = time.perf_counter()
        if self._bar is not None and self._task is not None:
            text = f"predicting {scene}"
            self._bar.update(self._task, description=text, completed=self._tiles, total=total, numbers=numbers)
        elif self._tiles and now - self._spoken >= _EVERY:
            self._spoken = now
            left = seconds_left(now - self._start, self._tiles, max(total, self._tiles))
            self.say(f"predicting {scene}: {numbers}, {left:.0f} s left")


@contextmanager
def predict_progress(scenes: int) -> Iterator[PredictProgress]:
    """Shows the progress of a prediction inside the block.

    Args:
        scenes: How many scenes there are.
    """
    console = line_console()
    if not shows_bars(console):
        yield PredictProgress(scenes, console, None)
        return
    columns = (TextColumn("{task.fields[numbers]}"), TimeRemainingColumn(compact=True))
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(20),
        *columns,
        console=console,
        transient=True,
    ) as bar:
        yield PredictProgress(scenes, console, bar)
