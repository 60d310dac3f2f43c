"""The results of `distill bench`: as tables for a terminal and for docs, and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

_NONE = "-"

Row = list[str]


@dataclass(frozen=True)
class Timing:
    """One model with one number of threads in one precision.

    Attributes:
        model: A run folder or a file.
        runtime: What runs it.
        precision: What it computes in.
        threads: Of the runtime.
        ms: Of one pass.
        parts: ms of each part; none of files.
        memory_mb: The most that its process held while it computed, without the libraries; None if not measured.
    """

    model: str
    runtime: str
    precision: str
    threads: int
    ms: float
    parts: Mapping[str, float]
    memory_mb: float | None


@dataclass(frozen=True)
class Count:
    """Sizes and multiply-adds of a model.

    Attributes:
        model: A run folder or a file.
        stored_mb: Of its weights, of a file of all of it, in 10^6 bytes.
        instances: Most that it finds in one image, which it does in every pass; None where nothing depends on it.
        macs: Multiply-adds of each part; none of files.
    """

    model: str
    stored_mb: float
    instances: int | None
    macs: Mapping[str, int]


@dataclass(frozen=True)
class Bench:
    """Costs of models.

    Attributes:
        cpu: Name of the processor.
        image_size: Side of the square image, in pixels.
        timings: One for each model, number of threads and precision.
        counts: One for each model.
        rounds: How many rounds of passes there were.
        error: Standard error of how the times compare, as a fraction, at most.
        slowdown: How many times longer the median round took than a quiet one.
        versions: Of libraries.
    """

    cpu: str
    image_size: int
    timings: Sequence[Timing]
    counts: Sequence[Count]
    rounds: int
    error: float
    slowdown: float
    versions: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """All of it as values for JSON."""
        return asdict(self)

    def tables(self) -> list[tuple[Row, list[Row], int]]:
        """Heads, rows, and how many of the first columns hold names: of times, then of multiply-adds where counted."""
        return [self._times(), *([self._macs()] if any(count.macs for count in self.counts) else [])]

    def rich_tables(self) -> list[Table]:
        """The tables for a terminal."""
        return [_rich(*table) for table in self.tables()]

    def markdown(self) -> str:
        """The tables as Markdown, below what they were measured on."""
        return "\n\n".join([self.sentence(), *(_markdown(*table) for table in self.tables())]) + "\n"

    def sentence(self) -> str:
        """A sentence on the machine and on the precision of the numbers."""
        found = sorted({count.instances for count in self.counts if count.instances is not None})
        instances = f", {' or '.join(map(str, found))} instances in every pass" if found else ""
        return (
            f"{self.cpu}, {self.image_size} px, batch size 1{instances}. {self.rounds} rounds in turns, standard error "
            f"{self.error:.1%} at most; the median round took {self.slowdown:.2f} times as long as a quiet one."
        )

    def _times(self) -> tuple[Row, list[Row], int]:
        parts = list(dict.fromkeys(part for timing in self.timings for part in timing.parts))
        first = {timing.threads: timing.ms for timing in reversed(self.timings)}
        stored = {count.model: count.stored_mb for count in self.counts}
        head = ["model", "runtime", "precision", "threads", "ms", "speed", *parts, "peak / MB", "stored / MB"]
        rows = [
            [
                timing.model,
                timing.runtime,
                timing.precision,
                str(timing.threads),
                _number(timing.ms),
                f"{first[timing.threads] / timing.ms:.2f}",
                *(_number(timing.parts.get(part)) for part in parts),
                _number(timing.memory_mb),
                _number(stored[timing.model]),
            ]
            for timing in self.timings
        ]
        return head, rows, 3

    def _macs(self) -> tuple[Row, list[Row], int]:
        counts = [count for count in self.counts if count.macs]
        parts = list(dict.fromkeys(part for count in counts for part in count.macs))
        rows = [
            [
                count.model,
                *(_number(None if part not in count.macs else count.macs[part] / 1e9) for part in parts),
                _number(sum(count.macs.values()) / 1e9),
            ]
            for count in counts
        ]
        return ["10⁹ multiply-adds of", *parts, "all"], rows, 1


def _number(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _rich(head: Row, rows: list[Row], names: int) -> Table:
    table = Table(box=None, pad_edge=False)
    for index, title in enumerate(head):
        table.add_column(title, justify="left" if index < names else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _markdown(head: Row, rows: list[Row], names: int) -> str:
    rule = ["---" if index < names else "---:" for index in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
