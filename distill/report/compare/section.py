"""A section of the comparison: all rows of one task that were scored on the same images."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from distill.evaluation.units import counted
from distill.report.card import without_test_files
from distill.report.compare import standing
from distill.report.compare.classes import class_differences
from distill.report.compare.columns import Column, cost_columns, gain_column, quality_columns
from distill.report.compare.compared_run import ComparedRun
from distill.report.compare.costs import SharedCosts
from distill.report.compare.curves import curves
from distill.report.compare.names import name_rows
from distill.report.compare.origins import commands, environments, recipe_differences
from distill.report.compare.pictures import pictures
from distill.report.compare.rows import Row, folded
from distill.report.compare.sentence import sentence
from distill.report.compare.spread import Value, fold, missing
from distill.report.compare.teachers import references
from distill.report.run_record import TASKS

_SPLITS = {"test": "test", "validate": "validation"}


@dataclass
class Section:
    """Rows that can be compared.

    Attributes:
        task: Their task.
        data: Label of their data set.
        runs: Their runs.
        suffix: What tells the section from others of this task and data set; usually empty.
    """

    task: str
    data: str
    runs: list[ComparedRun]
    suffix: str = ""
    notes: list[dict[str, str]] = field(default_factory=list)

    def as_json(self, name: str, ids: Iterator[int], teachers: set[Path], costs: SharedCosts) -> dict[str, Any]:
        """The section as compare.json has it.

        Args:
            name: Its id.
            ids: Numbers of rows.
            teachers: Folders of the runs that others were distilled from.
            costs: Costs of all runs.
        """
        quality = quality_columns(self.task, (key for run in self.runs for key in run.scores))
        main = quality[0]
        rows = self._rows(main, ids, teachers, costs)
        spent = cost_columns(key for row in rows for key in [*costs.known(row), *row.told_costs])
        for row in rows:
            row.values = {column.key: _quality(row, column) for column in quality}
            row.values |= {column.key: costs.value(row, column.key) for column in spent}
        flagged = [{"level": "red", "text": text} for text in costs.flag(rows)]
        gain, baselines = [], {}
        if self.task != "distillation" and any(row.init != "scratch" and row.role == "student" for row in rows):
            gain = [gain_column(main)]
            found = {row.id: standing.add_gain(row, rows, main) for row in rows}
            baselines = {row: baseline for row, baseline in found.items() if baseline is not None}
        columns = [*quality, *gain, *spent]
        standing.mark_best(rows, columns)
        standing.mark_dominated(rows, main)
        return {
            "id": name,
            "task": self.task,
            "data": self.data,
            "title": f"{TASKS.get(self.task, self.task)} on {self.data}{self.suffix}",
            "subtitle": self._subtitle(),
            "sentence": sentence(rows, main),
            "quality": main.key,
            "columns": [column.as_json() for column in columns],
            "rows": [_row(row) for row in rows],
            "notes": [*self.notes, *flagged, *_notes_on_teachers(rows)],
            "pareto": {column.key: standing.frontier(rows, main, column.key) for column in spent},
            "curves": curves(rows, quality, self.task),
            "classes": class_differences(baselines, {row.id: row for row in rows}, main),
            "pictures": pictures(rows, self.task),
            "recipes": recipe_differences(rows),
            "environments": environments(rows),
        }

    def _rows(self, main: Column, ids: Iterator[int], teachers: set[Path], costs: SharedCosts) -> list[Row]:
        """The rows in order, with ids and names."""
        distillation = self.task == "distillation"
        rows = folded(self.runs, teachers)
        rows = _in_order([*rows, *references(rows, costs)] if distillation else rows, main)
        for row in rows:
            row.id = f"r{next(ids)}"
        name_rows(rows, distillation)
        return rows

    def _subtitle(self) -> str:
        stages = {run.stage for run in self.runs}
        scored = [run for run in self.runs if run.scores]
        untested = bool(scored) and all(without_test_files(run.facts) for run in scored)
        split = "validation" if untested else " or ".join(_SPLITS[stage] for stage in sorted(stages))
        images = {run.facts["images"] for run in self.runs if "images" in run.facts}
        many = f"{counted(images.pop(), f'{split} image')}" if len(images) == 1 else f"{split} images"
        if untested:
            return f"{many} (there are no test files)"
        return many if scored else f"{many}, not scored yet"


def _notes_on_teachers(rows: Sequence[Row]) -> list[dict[str, str]]:
    """A warning where the rows of a distillation follow different teachers, by which their scores are measured."""
    teachers = dict.fromkeys(
        row.teacher for row in rows if row.role == "student" and row.runs[0].record.task == "distillation"
    )
    if len(teachers) < 2:
        return []
    named = ", ".join(str(teacher or "unknown") for teacher in teachers)
    text = f"distilled from different teachers ({named}): scores say how well a student follows its own"
    return [{"level": "red", "text": text}]


def _in_order(rows: Sequence[Row], main: Column) -> list[Row]:
    """Teachers first; then students by the best that any of their rows reaches, the rows of a student together."""
    sign = -1 if main.better == "min" else 1
    reached = {id(row): sign * fmean(each) if (each := row.scores(main.key).values()) else -math.inf for row in rows}
    best: dict[str, float] = {}
    for row in rows:
        best[row.student] = max(best.get(row.student, -math.inf), reached[id(row)])
    return sorted(rows, key=lambda row: (row.role != "teacher", -best[row.student], row.student, -reached[id(row)]))


def _quality(row: Row, column: Column) -> Value:
    if not row.runs:
        return missing("the teacher is what its students are measured by")
    if each := row.scores(column.key):
        value = fold(list(each.items()))
        if len(each) == 1:  # then there is no spread over seeds
            value["sd"] = next((spread for run in row.runs if (spread := run.spread(column.key)) is not None), None)
        return value
    unscored = [run for run in row.runs if not run.scores]
    if len(unscored) == len(row.runs):
        return missing(unscored[0].way_to_scores)
    return missing("not defined on these images" if any(column.key in run.scores for run in row.runs) else "not scored")


def _row(row: Row) -> dict[str, Any]:
    for run in row.runs:
        if not run.scores and any(other.scores for other in row.runs):
            row.add(f"{run.path}: {run.way_to_scores}")
    return {
        "id": row.id,
        "name": row.name,
        "student": row.student,
        "init": row.init,
        "head": row.head,
        "teacher": row.teacher,
        "role": row.role,
        "seeds": [run.seed for run in row.runs],
        "runs": [run.path for run in row.runs],
        "image_size": row.runs[0].image_size if row.runs else None,
        "values": row.values,
        "dominated_by": row.dominated_by,
        "best": row.best,
        "notes": row.notes,
        "commands": commands(row),
    }
