"""Teachers as references: which runs are teachers, and what the runs of their students tell of them."""

from collections.abc import Sequence
from pathlib import Path

from distill.report.compare.rows import Row
from distill.report.run_record import RunRecord

_TOLD = ("params", "macs")  # costs of a teacher that its students' runs know, as `teacher_params` and `teacher_macs`


def teacher_folders(records: Sequence[RunRecord]) -> set[Path]:
    """Folders of the runs whose student is the teacher of a distillation among the runs.

    Where none has the very file, as in a copy of the runs, the last two parts of its path decide.
    """
    students = {record.folder.path: record.folder.student for record in records}
    found = set()
    for weights in (path for record in records if (path := record.weights_file("teacher")) is not None):
        same = {folder for folder, student in students.items() if student.resolve() == weights.resolve()}
        found |= same or {folder for folder, student in students.items() if student.parts[-2:] == weights.parts[-2:]}
    return found


def references(rows: Sequence[Row]) -> list[Row]:
    """A row for each teacher of distillations of which the runs tell a cost."""
    found: dict[str, Row] = {}
    for row in rows:
        for record in (run.record for run in row.runs if row.teacher is not None):
            costs = {key: cost for key in _TOLD if (cost := record.facts.get(f"teacher_{key}")) is not None}
            if costs:
                label = str(row.teacher)
                found.setdefault(label, Row([], label, "pretrained", "teacher")).told_costs |= costs
    return list(found.values())
