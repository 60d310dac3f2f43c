"""Where rows come from: keys of the recipe in which they differ, machines and versions, commands that repeat them."""

import shlex
from collections.abc import Sequence
from typing import Any

from distill.recipe.compose import on_one_line
from distill.report.compare.compared_run import ComparedRun
from distill.report.compare.names import short, shown
from distill.report.compare.rows import Row
from distill.runs.differences import settled


def recipe_differences(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Keys in which the rows' recipes differ, files of weights too, with each row's value as text."""
    recipes = {row.id: settled(row.runs[0].record.recipe) for row in rows if row.runs}
    keys = dict.fromkeys(key for recipe in recipes.values() for key in recipe)
    found = []
    for key in keys:
        values = {name: shown(recipe[key]) for name, recipe in recipes.items() if key in recipe}
        if len(values) < len(recipes) or len(set(values.values())) > 1:
            found.append({"key": key, "values": values})
    return found


def environments(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The machines and versions that runs were trained with, and the rows of each."""
    found: list[dict[str, Any]] = []
    for row in rows:
        for run in row.runs:
            own = _environment(run)
            same = next((one for one in found if {**one, "rows": None} == {**own, "rows": None}), None)
            if same is None:
                found.append({"rows": [row.id], **own})
            elif row.id not in same["rows"]:
                same["rows"].append(row.id)
    return found


def commands(row: Row) -> list[str]:
    """The commands that repeat the runs of a row: the fit into another folder, then the scoring."""
    found = []
    for run in row.runs:
        folder = run.record.folder
        again = shlex.quote(str(folder.path.with_name(f"again_{folder.name}")))  # no name of a seed's run
        found.append(f"distill fit {shlex.quote(str(folder.recipe))} --run.dir {again}")
        words = [
            f"--{short(key)} {shlex.quote(on_one_line(value))}" for key, value in run.facts.get("overrides", {}).items()
        ]
        checkpoint = run.settings.get("checkpoint")
        words += ["--ckpt_path best"] if checkpoint == folder.BEST else []
        found.append(" ".join([f"distill {run.stage} {again}", *words]))
    return found


def _environment(run: ComparedRun) -> dict[str, Any]:
    found = run.record.environment
    return {
        "cpu": found.get("cpu", "unknown"),
        "threads": found.get("threads"),
        "gpus": found.get("gpus", []),
        "python": found.get("python", "unknown"),
        "platform": found.get("platform", "unknown"),
        "versions": found.get("versions", {}),
    }
