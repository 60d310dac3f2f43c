"""Identifies the one W&B run of a run folder."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from distill.errors import UserError
from distill.files import read_csv, read_json, write_json
from distill.report.run_record import RunRecord
from distill.runs.folder import RunFolder
from distill.runs.moved import without_paths


def id_of(record: RunRecord) -> str:
    """The id under which live logging and offline runs reach the same run at W&B."""
    return stored_id(record.folder) or _derived_id(record)


def by_id(records: Sequence[RunRecord]) -> dict[str, RunRecord]:
    """Runs by their ids.

    Raises:
        UserError: A run folder is given beside its copy, of which W&B would keep one.
    """
    found: dict[str, RunRecord] = {}
    for record in records:
        if (first := found.setdefault(id_of(record), record)) is not record:
            raise UserError(
                f"{first.folder} and {record.folder} are one run at W&B, because one is a copy of the other; give only "
                "one of them"
            )
    return found


def stored_id(folder: RunFolder) -> str | None:
    """The id under which live logging began; None for a run without it."""
    found = _stored(folder).get("id")
    return None if found is None else str(found)


def remember(folder: RunFolder, identity: str, facts: Mapping[str, Any]) -> None:
    """Writes wandb.json: the id, and the facts of a run that has no summary.json yet."""
    write_json(folder.wandb_identity, {"id": identity, "facts": dict(facts)})


def with_known_facts(record: RunRecord) -> RunRecord:
    """The record of a run that did not finish, with the facts that live logging had of it."""
    return record if record.finished else replace(record, facts=_stored(record.folder).get("facts", {}))


def _stored(folder: RunFolder) -> dict[str, Any]:
    path = folder.wandb_identity
    return read_json(path) if path.is_file() else {}


def digest(content: object) -> str:
    """Digits over a part of a recipe, in which paths count as given or not: the files may have moved."""
    text = json.dumps(without_paths(content), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _derived_id(record: RunRecord) -> str:
    """The id of a run without live logging, which neither resuming nor moving its folder changes.

    What the first logged step found, with its times, is the run's own.
    """
    first = _first_step(record.folder) or record.recipe.get("run")
    return digest({"model": record.recipe["model"], "seed": record.seed, "first": first})


def _first_step(folder: RunFolder) -> dict[str, str]:
    """The cells of the first step in metrics.csv."""
    found: dict[str, str] = {}
    header, *rows = (read_csv(folder.metrics) if folder.metrics.is_file() else []) or [[]]
    for row in rows:
        cells = dict(zip(header, row, strict=False))
        if found.setdefault("step", cells.get("step", "")) != cells.get("step", ""):
            break
        found |= {key: value for key, value in cells.items() if value}
    return found
