"""Names of rows: the student, the origin of its weights, and other differences."""

import json
from collections.abc import Callable, Sequence

from distill.report.compare.rows import Row

_LONGEST = 3  # differing keys in a name
_WIDEST = 24  # characters of a value in a name


def name_rows(rows: Sequence[Row], distillation: bool) -> None:
    """Gives each row a name of its own.

    Args:
        rows: The rows of a section.
        distillation: Whether they are distillations, of which the initial weights are seldom other than random.
    """
    for row in rows:
        told = {"teacher": "teacher", "bound": row.reference}.get(row.role) or row.init
        row.name = row.student if distillation and told == "scratch" else f"{row.student} · {told}"
    steps: list[Callable[[list[Row]], list[str]]] = [
        lambda alike: [row.head or "" for row in alike],
        lambda alike: [f"from {row.teacher}" if row.teacher else "" for row in alike],
        _differing_keys,
        lambda alike: [str(row.settings.get("checkpoint", "not scored")) for row in alike],
        lambda alike: [_detections(row) for row in alike],
        lambda alike: [row.runs[0].record.folder.name if row.runs else "" for row in alike],
        lambda alike: [row.runs[0].path if row.runs else "" for row in alike],
        lambda alike: [str(number + 1) for number in range(len(alike))],
    ]
    for step in steps:
        by_name: dict[str, list[Row]] = {}
        for row in rows:
            by_name.setdefault(row.name, []).append(row)
        for alike in by_name.values():
            if len(alike) > 1 and len(set(words := step(alike))) > 1:
                for row, word in zip(alike, words, strict=True):
                    row.name += f" · {word}" if word else ""


def differing_keys(rows: Sequence[Row]) -> list[str]:
    """Keys in which the recipes of rows differ, those with few parts first, the files of weights left out."""
    keys = dict.fromkeys(key for row in rows for key in row.recipe)
    found = [key for key in keys if any(row.recipe.get(key) != rows[0].recipe.get(key) for row in rows)]
    return sorted(found, key=lambda key: key.count("."))


def short(key: str) -> str:
    """A dotted key as it is typed, without `init_args`."""
    return key.replace(".init_args", "")


def _differing_keys(rows: Sequence[Row]) -> list[str]:
    """The fewest keys that tell the rows apart, as words."""
    told = [""] * len(rows)
    for key in sorted(differing_keys(rows), key=lambda key: len(key.rpartition(".")[2]))[:_LONGEST]:
        words = [f"{key.rpartition('.')[2]} {_shown(row.recipe.get(key))}" for row in rows]
        longer = [f"{one}, {word}" if one else word for one, word in zip(told, words, strict=True)]
        if len(set(longer)) > len(set(told)):
            told = longer
        if len(set(told)) == len(rows):
            break
    return told


def _detections(row: Row) -> str:
    most = row.settings.get("max_detections")
    return f"{most} detections" if most else ""


def shown(value: object) -> str:
    """A value of a recipe as YAML writes it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _shown(value: object) -> str:
    text = shown(value)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
