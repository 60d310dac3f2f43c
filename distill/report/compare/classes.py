"""Scores of each class against the scratch baseline's."""

import statistics
from collections.abc import Mapping
from typing import Any

from distill.evaluation.metrics import KINDS, metric_of
from distill.files import read_csv
from distill.report.compare.columns import Column, quality_name, scale_of
from distill.report.compare.compared_run import ComparedRun
from distill.report.compare.rows import Row
from distill.report.compare.spread import number

_MEASURES = {"mIoU": "IoU", "macro_F1": "F1"}  # of a class, by their mean over classes
_COUNTS = ("objects", "pixels")

Scores = dict[str, tuple[int, float]]  # count and score by class


def class_differences(baselines: Mapping[str, Row], rows: Mapping[str, Row], main: Column) -> dict[str, Any] | None:
    """The differences of each row to its baseline by class, the largest first.

    Args:
        baselines: The scratch baseline of each row that has one, by the row's id.
        rows: Rows by id.
        main: The main quality.

    Returns:
        What compare.json has under `classes`; None where no two rows have scores of classes.
    """
    kind, _, measure = main.key.rpartition("/")
    measure = _MEASURES.get(measure, measure)
    pairs = []
    for name, baseline in baselines.items():
        if classes := _compared(rows[name], baseline, kind, measure):
            pairs.append({"row": name, "scratch": baseline.id, "classes": classes})
    if not pairs:
        return None
    metric = f"{kind}/{measure}" if kind else measure
    known = metric_of(metric)
    return {
        "metric": metric,
        "name": quality_name(metric),
        "unit": known.unit,
        "scale": scale_of(known),
        "digits": known.digits,
        "pairs": pairs,
    }


def _compared(row: Row, baseline: Row, kind: str, measure: str) -> list[dict[str, Any]]:
    own = {run.seed: scores_of_classes(run, kind, measure) for run in row.runs}
    other = {run.seed: scores_of_classes(run, kind, measure) for run in baseline.runs}
    seeds = [seed for seed in own if own[seed] and other.get(seed)]
    counted = "pixels" if kind not in KINDS else "objects"
    found = []
    for name in own[seeds[0]] if seeds else ():
        pairs = [(own[seed][name], other[seed][name]) for seed in seeds if name in own[seed] and name in other[seed]]
        if pairs:
            value, scratch = (statistics.fmean(one[1] for one in each) for each in zip(*pairs, strict=True))
            scored = {"value": number(value), "scratch": number(scratch), "difference": number(value - scratch)}
            found.append({"name": name, "count": pairs[0][0][0], "counted": counted, **scored})
    return sorted(found, key=lambda one: -one["difference"])


def scores_of_classes(run: ComparedRun, kind: str, measure: str) -> Scores:
    """Count and score of each class, of those whose score is defined; empty for a run without a table of classes."""
    path = run.record.folder.class_scores(run.stage)
    if not path.is_file():
        return {}
    header, *cells = read_csv(path) or [[]]
    lines = (dict(zip(header, each, strict=False)) for each in cells)
    found = {}
    for line in (line for line in lines if line.get("kind", kind) == kind):
        value = line.get(measure) or "n/a"
        if value != "n/a":
            count = next((line[key] for key in _COUNTS if line.get(key)), "0")
            found[line["class"]] = (int(float(count)), float(value))
    return found
