"""How scores of classes are shown, whatever the task: a table in a file, and a confusion matrix.

Axes: K rows, L columns.
"""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from distill.evaluation.units import UNDEFINED
from distill.files import write_atomically

_MOST_NUMBERED = 100  # classes up to which a cell of a confusion matrix has room for its number


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes rows of the same columns as CSV."""

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(path, write)


def rounded(scores: Mapping[str, float]) -> dict[str, object]:
    """The scores of a row as a file for programs holds them: fractions, and `UNDEFINED` where nothing is."""
    return {key: UNDEFINED if math.isnan(value) else round(value, 6) for key, value in scores.items()}


def class_table(rows: Mapping[str, Sequence[str]], columns: Sequence[str], heading: str = "class") -> Table:
    """A table for the console: a row for each class, or for whatever the heading says."""
    table = Table(heading, *columns, box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, cells in rows.items():
        table.add_row(Text(name), *cells)
    return table


def matrix_figure(
    counts: NDArray[np.int64],
    rows: Sequence[str],
    columns: Sequence[str],
    text: Callable[[int, float], str],
    title: str,
) -> Figure:
    """A confusion matrix (K, L); colours are shares of the true class, and empty cells stay empty.

    Above 100 classes the cells are smaller and have no numbers.

    Args:
        counts: Rows are true classes, columns predicted ones.
        rows: Names (K).
        columns: Names (L).
        text: What a cell says, from its count and its share of the row.
        title: What is counted.
    """
    sums = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, sums, out=np.zeros(counts.shape), where=sums > 0)
    side = 2.6 + 0.55 * min(len(counts), _MOST_NUMBERED)  # a picture of many more would take gigabytes
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count and len(counts) <= _MOST_NUMBERED:
            shade = "white" if shares[row, column] > 0.5 else "black"
            label = text(int(count), shares[row, column])
            axes.text(column, row, label, ha="center", va="center", color=shade, fontsize=8)
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    return figure
