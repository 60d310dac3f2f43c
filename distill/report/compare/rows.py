"""Runs become rows: those that differ only in their seed are folded, unless they were scored differently."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from distill.report.compare.compared_run import ComparedRun
from distill.report.compare.spread import Value

Note = dict[str, str]


@dataclass
class Row:
    """One student with one initialisation on one task, its seeds folded.

    Attributes:
        runs: Its runs by seed; none for a teacher of which only a distillation tells.
        student: Label of the student.
        init: Where its initial weights came from.
        role: "student"; "teacher" or "bound" for a reference, which is shown beside students but not ranked.
        teacher: Label of the teacher that it is distilled from.
        reference: What a bound is, in the words of its recipe (`run.reference`).
        id: Its name in compare.json.
        name: What people read.
        told_costs: What the runs of its students tell of the costs of a teacher without runs of its own.
        values: By key of the column.
        best: Keys of the columns in which no row is better.
        dominated_by: Rows that are no worse in anything and better in something.
        notes: What is to be known about it.
    """

    runs: list[ComparedRun]
    student: str
    init: str
    role: str = "student"
    teacher: str | None = None
    reference: str | None = None
    id: str = ""
    name: str = ""
    told_costs: dict[str, float] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    best: list[str] = field(default_factory=list)
    dominated_by: list[str] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    @property
    def head(self) -> str | None:
        """Label of the head or decoder."""
        return next((run.record.head for run in self.runs if run.record.head), None)

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The recipe of its first run by dotted keys, without seeds and weights."""
        return self.runs[0].recipe if self.runs else {}

    @property
    def settings(self) -> dict[str, Any]:
        """How its runs were scored, as far as it is known."""
        known: dict[str, Any] = {}
        for run in self.runs:
            known |= run.settings
        return known

    def scores(self, key: str) -> dict[int, float]:
        """A metric by seed, of the runs that have it."""
        found = {run.seed: run.scores.get(key) for run in self.runs}
        return {seed: value for seed, value in found.items() if value is not None}

    def add(self, text: str, level: str = "info") -> None:
        """Adds a note."""
        self.notes.append({"level": level, "text": text})


def folded(runs: Iterable[ComparedRun], teachers: set[Path]) -> list[Row]:
    """The rows of a section.

    Args:
        runs: Its runs, scored on the same images.
        teachers: Folders of the runs that others were distilled from.
    """
    kinds: dict[str, list[ComparedRun]] = {}
    for run in runs:
        kinds.setdefault(run.kind, []).append(run)
    rows = []
    for alike in kinds.values():
        by_settings = _by_settings(alike)
        groups = [seeds for group in by_settings for seeds in _without_repeats(group)]
        made = [_row(group, teachers) for group in groups]
        if len(by_settings) > 1:
            for row, other in itertools.permutations(made, 2):
                if difference := settings_difference(row.settings, other.settings):
                    row.add(f"not folded with {other.runs[0].path}, which was scored differently: {difference}", "red")
        elif len(groups) > 1:
            for row in made:
                row.add("several runs of one recipe and seed: they are not folded into one row")
        rows += made
    return rows


def settings_difference(own: dict[str, Any], other: dict[str, Any]) -> str:
    """How the settings of two scorings differ, such as "checkpoint is last.ckpt and best.ckpt"; empty if they agree.

    What one of them does not tell counts as the same.
    """
    for key in sorted(own.keys() & other.keys()):
        if own[key] != other[key]:
            return f"{key} is {own[key]} and {other[key]}"
    return ""


def _row(runs: list[ComparedRun], teachers: set[Path]) -> Row:
    runs = sorted(runs, key=lambda run: run.seed)
    told = next((run.record for run in runs if run.record.finished), runs[0].record)
    role = "student" if told.reference is None else "bound"
    if any(run.record.folder.path in teachers for run in runs):
        role = "teacher"
    return Row(runs, told.student, told.init, role, told.teacher, told.reference)


def _by_settings(runs: Iterable[ComparedRun]) -> list[list[ComparedRun]]:
    groups: list[tuple[dict[str, Any], list[ComparedRun]]] = []
    for run in runs:
        settings = run.settings
        for known, group in groups:
            if not settings_difference(known, settings):
                known |= settings
                group.append(run)
                break
        else:
            groups.append((dict(settings), [run]))
    return [group for _, group in groups]


def _without_repeats(runs: Iterable[ComparedRun]) -> list[list[ComparedRun]]:
    groups: list[dict[int, ComparedRun]] = []
    for run in runs:
        for group in groups:
            if run.seed not in group:
                group[run.seed] = run
                break
        else:
            groups.append({run.seed: run})
    return [list(group.values()) for group in groups]
