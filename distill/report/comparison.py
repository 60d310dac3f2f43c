"""A table that compares run folders: scores and costs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rich.table import Table

from distill.evaluation.units import percent
from distill.runs.folder import RunFolder


@dataclass(frozen=True)
class Row:
    """One model of a comparison; costs are the backbone's for one image, average precision is in percent."""

    name: str
    params: int
    macs: int
    latency_ms: float
    box_ap: float
    mask_ap: float


def read_row(name: str, folder: RunFolder) -> Row:
    """Reads a tested fine-tuning run; average precision in percent."""
    facts, _ = folder.read_summary()
    scores = folder.read_scores("test")
    return Row(
        name,
        facts["params"],
        facts["macs"],
        facts["cpu_ms"],
        *(math.nan if (score := scores[key]) is None else 100 * score for key in ("test/box/AP", "test/mask/AP")),
    )


def read_rows(folders: Mapping[str, RunFolder]) -> list[Row]:
    """Reads several tested runs by name."""
    return [read_row(name, folder) for name, folder in folders.items()]


HEADER = ("model", "backbone params", "backbone MACs", "CPU latency", "box AP", "mask AP")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        f"{row.params / 1e6:.2f} M",
        f"{row.macs / 1e9:.2f} G",
        f"{row.latency_ms:.1f} ms",
        percent(row.box_ap / 100),
        percent(row.mask_ap / 100),
    )


def rich_table(rows: list[Row], title: str) -> Table:
    """The table for a terminal."""
    table = Table(*HEADER, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*_cells(row))
    return table


def markdown_table(rows: list[Row]) -> str:
    """The table for a document."""
    lines = [HEADER, ("---", *["---:"] * (len(HEADER) - 1)), *map(_cells, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
