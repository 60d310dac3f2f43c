"""What all benchmarks share: candidates that take turns, tables, goals and the name of the processor."""

import math
import platform
import statistics
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.table import Table

MOST_TURNS, TURN = 15, 0.02  # seconds of calls per turn
SECONDS = 0.4  # of calls per candidate: slow ones take fewer turns, but at least one

console = Console(width=150)
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Candidate:
    """Something to time.

    Args:
        run: One call.
        first: Seconds of a call before; without, it runs once untimed.
        threads: PyTorch's threads while it runs.
        clock: Seconds from any start, of which those of a call are the difference.
    """

    run: Callable[[], object]
    first: float | None = None
    threads: int = 1
    clock: Callable[[], float] = time.perf_counter


@dataclass(frozen=True)
class Bar:
    """A goal and what a part measured of it; `None` where it was not."""

    what: str
    measured: float | None
    goal: float

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "not measured"
        return "met" if self.measured >= self.goal else "missed"


def measure(candidates: dict[Name, Candidate]) -> dict[Name, float]:
    """Median seconds of each candidate; they take turns, so that a busy machine slows all."""
    threads = torch.get_num_threads()
    seconds: dict[Name, list[float]] = {name: [] for name in candidates}
    turns = {}
    for name, candidate in candidates.items():
        torch.set_num_threads(candidate.threads)
        once = timed(candidate, 0)[0] if candidate.first is None else candidate.first
        turns[name] = math.ceil(SECONDS / max(once, SECONDS / MOST_TURNS))
    for turn in range(MOST_TURNS):
        for name, candidate in candidates.items():
            if turn < turns[name]:
                torch.set_num_threads(candidate.threads)
                seconds[name] += timed(candidate, TURN)
    torch.set_num_threads(threads)
    return {name: statistics.median(times) for name, times in seconds.items()}


def timed(candidate: Candidate, turn: float) -> list[float]:
    """Seconds of each call, at least one, until `turn` seconds have passed.

    The first does not count where others follow: it finds the caches full of what ran before.
    """
    seconds: list[float] = []
    while not seconds or sum(seconds) < turn:
        synchronize()
        start = candidate.clock()
        candidate.run()
        synchronize()
        seconds.append(candidate.clock() - start)
    return seconds[1:] or seconds


def synchronize() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def print_goals(bars: Sequence[Bar]) -> None:
    table = make_table("Goals: the smallest ratio measured", "times", "measured", "goal", "")
    for bar in bars:
        table.add_row(bar.what, "-" if bar.measured is None else number(bar.measured), f"{bar.goal:g}", bar.verdict)
    console.print(table)


def make_table(title: str, *columns: str) -> Table:
    """A table whose first column holds names and whose others hold numbers."""
    table = Table(title=title)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
