"""The cells of a sweep: mean and interval over seeds, and differences to the first cell, paired by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from distill.report.compare.columns import Column, quality_columns, text
from distill.report.compare.compared_run import ComparedRun
from distill.report.compare.spread import fold, paired, t_interval
from distill.report.run_record import RunRecord

_NONE = "-"
NOTE = "± is half the 95 % t interval of a mean over seeds; differences are to the first row, paired by seed."


@dataclass(frozen=True)
class SweepTable:
    """Cells and their scores.

    Attributes:
        columns: The metrics, the main one first.
        rows: For each cell `cell`, `seeds`, and by metric `values` (mean, sd, n, min, max, each, low, high) and
            `difference` (the same; absent in the first row and without a seed in common). Numbers are fractions.
    """

    columns: list[Column]
    rows: list[dict[str, Any]]

    def as_table(self) -> Table:
        """The table for a terminal; the best mean of each metric is bold, and `NOTE` explains the numbers."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("cell", overflow="fold")
        table.add_column("seeds", justify="right")
        for column in self.columns:
            unit = f" ({column.unit})" if column.unit else ""
            table.add_column(Text(f"{column.name}{unit}"), justify="right")
            table.add_column("difference", justify="right")
        best = {column.key: self.best(column) for column in self.columns}
        for row in self.rows:
            cells = []
            for column in self.columns:
                style = "bold" if row["cell"] == best[column.key] else ""
                cells.append(Text(_with_interval(column, row["values"].get(column.key)), style=style))
                cells.append(Text(_with_interval(column, row["difference"].get(column.key), signed=True)))
            table.add_row(Text(row["cell"]), str(len(row["seeds"])), *cells)
        return table

    def best(self, column: Column) -> str | None:
        """The cell with the best mean; None where no direction is better, or nothing is known."""
        means = {row["cell"]: row["values"][column.key]["mean"] for row in self.rows if column.key in row["values"]}
        if column.better is None or not means:
            return None
        return (min if column.better == "min" else max)(means, key=lambda cell: means[cell])


def sweep_table(cells: Mapping[str, Sequence[RunRecord]], stage: str | None = None) -> SweepTable:
    """The table of a sweep.

    Args:
        cells: Finished runs by cell, those of a cell differing in their seed.
        stage: "test" or "validate"; None for what their task is scored by.
    """
    runs = {cell: [ComparedRun.of(record, stage) for record in records] for cell, records in cells.items()}
    first = next(iter(runs.values()))
    names = dict.fromkeys(key for each in runs.values() for run in each for key in run.scores)
    columns = [column for column in quality_columns(first[0].record.task, names) if column.shown]
    rows = []
    for cell, own in runs.items():
        row: dict[str, Any] = {"cell": cell, "seeds": [run.seed for run in own], "values": {}, "difference": {}}
        for key in (column.key for column in columns):
            scores = _by_seed(own, key)
            if scores:
                ends = t_interval(list(scores.values())) if len(scores) > 1 else (None, None)
                row["values"][key] = fold(list(scores.items())) | {"low": ends[0], "high": ends[1]}
            if own is not first and (difference := paired(scores, _by_seed(first, key))) is not None:
                row["difference"][key] = difference
        rows.append(row)
    return SweepTable(columns, rows)


def _by_seed(runs: Sequence[ComparedRun], key: str) -> dict[int, float]:
    return {run.seed: score for run in runs if (score := run.scores.get(key)) is not None}


def _with_interval(column: Column, value: Mapping[str, Any] | None, signed: bool = False) -> str:
    if value is None:
        return _NONE
    shown = text(vars(column), value["mean"], signed)
    if value["low"] is None:
        return shown
    return f"{shown} ± {text(vars(column), (value['high'] - value['low']) / 2)}"
