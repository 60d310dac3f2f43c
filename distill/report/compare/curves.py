"""Learning curves of rows: the mean over seeds and the band between the lowest and the highest."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.evaluation.metrics import bare, is_probe, metric_of
from distill.files import read_csv
from distill.report.compare.columns import Column, quality_name, scale_of
from distill.report.compare.rows import Row
from distill.report.compare.spread import number

_POINTS = 200  # of a line, at most
_LOSS = "train/loss"
_TRIVIAL = {"l1_ratio": 1.0}  # what the image-independent baseline reaches


@dataclass(frozen=True)
class Series:
    """A metric of one run by step."""

    values: dict[int, float]
    hours: dict[int, float]


def curves(rows: Sequence[Row], qualities: Sequence[Column], task: str) -> list[dict[str, Any]]:
    """The curves of a section: of the main quality on the validation images, of probes, and of a fine-tuning's loss."""
    drawn = [column.key for column in qualities[:1]] + [column.key for column in qualities if is_probe(column.key)]
    metrics = [f"val/{key}" for key in drawn] + ([] if task == "distillation" else [_LOSS])
    read = {row.id: [series(run.record.folder.metrics, metrics) for run in row.runs] for row in rows}
    found = []
    for metric in metrics:
        lines = [line for row in rows if (line := _line(row.id, [one[metric] for one in read[row.id]])) is not None]
        if lines:
            found.append(_described(metric) | {"lines": lines})
    return found


def series(path: Path, metrics: Sequence[str]) -> dict[str, Series]:
    """Reads columns of a metrics.csv; of a step that was logged again after a resumption, the later row counts.

    Raises:
        UserError: The file is no table.
    """
    found = {metric: Series({}, {}) for metric in metrics}
    header, *lines = (read_csv(path) if path.is_file() else []) or [[]]
    at = {name: index for index, name in enumerate(header)}
    logged = [metric for metric in metrics if metric in at and "step" in at]
    hours = None
    for line in lines:
        if len(line) < len(header):
            continue  # the last line of a process that was killed
        if "hours" in at and (now := _finite(line[at["hours"]])) is not None:
            hours = now
        for metric in logged:
            step, value = _finite(line[at["step"]]), _finite(line[at[metric]])
            if step is not None and value is not None:
                found[metric].values[int(step)] = value
                if hours is not None:
                    found[metric].hours[int(step)] = hours
    return found


def thinned(count: int) -> list[int]:
    """Indices of at most `_POINTS` evenly spaced ones of so many, the first and the last among them."""
    if count <= _POINTS:
        return list(range(count))
    return sorted({round(index * (count - 1) / (_POINTS - 1)) for index in range(_POINTS)})


def _finite(cell: str) -> float | None:
    """The number in a cell; None for an empty one, NaN, and what a process that was killed left of a number."""
    try:
        value = float(cell or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _line(row: str, each: Sequence[Series]) -> dict[str, Any] | None:
    having = [one for one in each if one.values]
    if not having:
        return None
    longest = max(len(one.values) for one in having)
    having = [one for one in having if 2 * len(one.values) > longest]  # a run that has just begun would cut the others
    common = sorted(set.intersection(*(set(one.values) for one in having)))
    steps = [common[index] for index in thinned(len(common))]
    if not steps:
        return None
    at = [[one.values[step] for one in having] for step in steps]
    timed = all(step in one.hours for one in having for step in steps)
    return {
        "row": row,
        "n": len(having),
        "step": steps,
        "hours": [number(statistics.fmean(one.hours[step] for one in having)) for step in steps] if timed else None,
        "mean": [number(statistics.fmean(values)) for values in at],
        "low": [number(min(values)) for values in at] if len(having) > 1 else None,
        "high": [number(max(values)) for values in at] if len(having) > 1 else None,
    }


def _described(metric: str) -> dict[str, Any]:
    known, key = metric_of(metric), bare(metric)
    name = "training loss" if metric == _LOSS else f"validation {quality_name(key)}"
    return {
        "metric": metric,
        "name": name,
        "unit": known.unit,
        "scale": scale_of(known),
        "digits": known.digits,
        "better": "min" if metric == _LOSS else known.better,
        "reference": _TRIVIAL.get(key),
    }
