"""Announces what a run does before and after its steps, so that long phases are not silent.

On a terminal and in a notebook a phase has a spinner or a bar and leaves one line; in a log it has a line when it
starts, one every half minute where its length is known, and one at its end if it took long.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from distill.rank import is_rank_zero

_EVERY = 30.0  # seconds between two lines in a log
_LONG = 5.0  # seconds from which a log says how long a phase took

T = TypeVar("T", bound=Sized)
Advance = Callable[[int], None]


def line_console() -> Console:
    """Prints lines as they are; they break between words on a terminal, and stay whole in a pipe or a file."""
    console = Console(highlight=False, markup=False, emoji=False)  # names of files and classes may look like either
    console.soft_wrap = not console.is_terminal
    return console


def shows_bars(console: Console) -> bool:
    """Whether the output can be drawn over: on a terminal, and in a notebook that has the widgets it takes."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


def seconds_left(elapsed: float, done: int, total: int) -> float:
    """The estimated seconds left of a phase, at its pace so far."""
    return elapsed / done * (total - done)


@contextmanager
def phase(what: str, total: int | None = None) -> Iterator[Advance]:
    """Announces the phase inside the block; the function that it gives counts finished items.

    Args:
        what: For example "calibrating on 64 training images".
        total: How much there is to count, if that is known.
    """
    console = line_console()
    if not is_rank_zero():  # of several processes, only the first prints
        yield lambda count: None
    elif shows_bars(console):
        yield from _with_bar(console, what, total)
    else:
        yield from _in_log(console, what, total)


def tracked(what: str, items: Iterable[T], total: int) -> Iterator[T]:
    """Iterates over the items up to `total`, and announces them as a phase.

    Args:
        what: As in `phase`.
        items: Batches, for example; an item counts by its length.
        total: How much there is to count.
    """
    done = 0
    with phase(what, total) as advance:
        for item in items:
            advance(min(len(item), total - done))
            done += len(item)
            if done >= total:
                break  # before it is handed out, since nobody may ask for another
            yield item
        else:
            return
    yield item


def _with_bar(console: Console, what: str, total: int | None) -> Iterator[Advance]:
    count = [] if total is None else [BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(compact=True)]
    start = time.perf_counter()
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}", markup=False), *count, console=console, transient=True
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda number: bar.advance(task, number)
    console.print(f"{what}: {_took(time.perf_counter() - start)}")


def _in_log(console: Console, what: str, total: int | None) -> Iterator[Advance]:
    start = spoken = time.perf_counter()
    done = 0

    def advance(number: int) -> None:
        nonlocal done, spoken
        done += number
        now = time.perf_counter()
        if total is not None and done < total and now - spoken >= _EVERY:
            spoken = now
            console.print(f"{what}: {done}/{total}, {seconds_left(now - start, done, total):.0f} s left")

    console.print(what)
    yield advance
    if (seconds := time.perf_counter() - start) >= _LONG:
        console.print(f"{what}: {_took(seconds)}")


def _took(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
