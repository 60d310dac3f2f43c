"""Whose weights a run began with, and under which licence: those of its teachers, back to the first run."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from distill.contracts import TeacherBase
from distill.runs.folder import RunFolder
from distill.runs.moved import started_in

_DEPTH = 5  # runs, each of which began with the weights of the next
_UNKNOWN = "unknown; ask who published them"


def teacher_licences(run: RunFolder) -> dict[str, str]:
    """The licence of each teacher's weights, in words, by the teacher's class and name.

    Teachers are those that the recipe names, and those of the run that trained the student's initial weights, as long
    as its folder is where it was. Of a teacher that is known by its name alone, the licence is not.
    """
    found: dict[str, str] = {}
    place: RunFolder | None = run
    for _ in range(_DEPTH):
        if place is None or not place.recipe.is_file():
            break
        arguments = place.read_recipe()["model"].get("init_args") or {}
        for teacher in _teachers(arguments):
            own = teacher.get("init_args") or {}
            label = f"{str(teacher['class_path']).rpartition('.')[2]} {own.get('name') or ''}".strip()
            found.setdefault(label, _licence(teacher["class_path"], own))
        student = (arguments.get("student") or {}).get("init_args") or {}
        place = _run_of(place, student.get("checkpoint"))
    facts = run.read_summary()[0] if run.summary.is_file() else {}
    named = facts.get("init_teacher")
    return found if named is None or named in found else found | {named: _UNKNOWN}


def _teachers(arguments: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The components of teachers in the arguments of a task."""
    for holder in (arguments, *(arguments.get("targets") or [])):
        if isinstance(holder.get("teacher"), Mapping):
            yield holder["teacher"]


def _licence(class_path: str, arguments: Mapping[str, Any]) -> str:
    if arguments.get("checkpoint"):
        return f"unknown; the weights came from a file, {Path(arguments['checkpoint']).name}: ask who made it"
    if arguments.get("pretrained") is False:
        return "none needed; its weights were random"
    try:
        teacher = resolve_name(class_path)
    except (ImportError, AttributeError, ValueError):
        return _UNKNOWN
    known = teacher.licence(arguments) if isinstance(teacher, type) and issubclass(teacher, TeacherBase) else None
    return _UNKNOWN if known is None else f"{known}, as timm states it of its published weights"


def _run_of(run: RunFolder, weights: str | None) -> RunFolder | None:
    """The run folder that a file of weights lies in."""
    if not weights:
        return None
    places = [Path(weights), *(folder / weights for folder in started_in(run))]
    file = next((place for place in places if place.is_file()), None)
    return None if file is None else RunFolder(file.parent)
