"""Teachers as references: which runs are teachers, and what the runs of their students tell of them."""

from collections.abc import Sequence
from pathlib import Path

from distill.report.compare.costs import SharedCosts
from distill.report.compare.rows import Row
from distill.report.run_record import RunRecord


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


def references(rows: Sequence[Row], costs: SharedCosts) -> list[Row]:
    """A row for each teacher of distillations of which a cost is known, and one for all teachers of a distillation."""
    found: dict[str, Row] = {}
    for row in rows:
        for run in row.runs if row.teacher is not None else ():
            told = {str(row.teacher): costs.of_teacher(run), str(run.record.teachers): costs.of_all_teachers(run)}
            for label in told:
                if told[label]:
                    found.setdefault(label, Row([], label, "pretrained", "teacher")).told_costs |= told[label]
    return list(found.values())
