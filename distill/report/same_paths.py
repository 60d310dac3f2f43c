"""Paths in the recipes of several runs: one that leads to one place is written alike in all of them."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from distill.report.run_record import RunRecord
from distill.runs.differences import flattened
from distill.runs.moved import is_path, set_part


def with_same_paths(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The records, with paths below `data` that lead to the same place written as the first relative one of them.

    A relative path starts where its run was started. Equal relative paths count as equal wherever runs were started, as
    those of a project that was moved or copied.
    """
    names: dict[tuple[str, Path], str] = {}
    found = [(record, list(_paths(record))) for record in records]
    for relative in (True, False):
        for _, paths in found:
            for key, text, place in paths:
                if relative is not Path(text).is_absolute():
                    names.setdefault((key, place), text)
    return [_renamed(record, {key: names[key, place] for key, _, place in paths}) for record, paths in found]


def _paths(record: RunRecord) -> Iterator[tuple[str, str, Path]]:
    """Dotted keys of paths, the paths, and where they lead."""
    start = Path(record.environment.get("started_in", ""))
    for key, value in flattened(record.recipe["data"], "data."):
        if is_path(key) and isinstance(value, str):
            yield key, value, (start / value).resolve()


def _renamed(record: RunRecord, paths: dict[str, str]) -> RunRecord:
    recipe = copy.deepcopy(record.recipe)
    for key, text in paths.items():
        set_part(recipe, key, text)
    return replace(record, recipe=recipe)
