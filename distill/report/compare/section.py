"""A section of the comparison: all rows of one task that were scored on the same images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from distill.evaluation.units import counted
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

_TITLES = {
    "distillation": "Distillation",
    "instances": "Instance segmentation",
    "segmentation": "Semantic segmentation",
}
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
        distillation = self.task == "distillation"
        rows = folded(self.runs, teachers)
        references = _references(rows) if distillation else []
        rows = sorted([*rows, *references], key=lambda row: row.role != "teacher")
        for row in rows:
            row.id = f"r{next(ids)}"
        name_rows(rows, distillation)
        quality = quality_columns(self.task, (key for run in self.runs for key in run.scores))
        main, spent = quality[0], cost_columns([*costs.known(rows), *_told(references)])
        for row in rows:
            row.values = {column.key: _quality(row, column) for column in quality}
            row.values |= {column.key: _told_cost(row, column.key) or costs.value(row, column.key) for column in spent}
        self.notes += [{"level": "red", "text": text} for text in costs.flag(rows)]
        gain, baselines = [], {}
        if not distillation and any(row.init != "scratch" and row.role == "student" for row in rows):
            gain = [gain_column(main)]
            found = {row.id: standing.add_gain(row, rows, main) for row in rows}
            baselines = {name: baseline for name, baseline in found.items() if baseline is not None}
        columns = [*quality, *gain, *spent]
        standing.mark_best(rows, columns)
        standing.mark_dominated(rows, main)
        by_id = {row.id: row for row in rows}
        return {
            "id": name,
            "task": self.task,
            "data": self.data,
            "title": f"{_TITLES.get(self.task, self.task)} on {self.data}{self.suffix}",
            "subtitle": self._subtitle(),
            "sentence": sentence(rows, main),
            "quality": main.key,
            "columns": [column.as_json() for column in columns],
            "rows": [_row(row) for row in rows],
            "notes": self.notes,
            "pareto": {column.key: standing.frontier(rows, main, column.key) for column in spent},
            "curves": curves(rows, main, self.task),
            "classes": None if distillation else class_differences(baselines, by_id, main),
            "pictures": pictures(rows, self.task),
            "recipes": recipe_differences(rows),
            "environments": environments(rows),
        }

    def _subtitle(self) -> str:
        stages = {run.stage for run in self.runs}
        split = " or ".join(_SPLITS[stage] for stage in sorted(stages))
        images = {run.facts["images"] for run in self.runs if "images" in run.facts}
        many = f"{counted(images.pop(), f'{split} image')}" if len(images) == 1 else f"{split} images"
        return many if any(run.scores for run in self.runs) else f"{many}, not scored yet"


def sections(runs: Sequence[ComparedRun]) -> list[Section]:
    """Runs by task, data set and the images that were scored, in the order of their first run."""
    places: dict[tuple[str, str, str], set[str]] = {}
    for run in runs:
        sets = places.setdefault(_place(run), set())
        if (images := run.facts.get("image_set")) is not None:
            sets.add(images)
    found: dict[tuple[str, str, str], Section] = {}
    for run in runs:
        task, data, place = _place(run)
        sets = places[task, data, place]
        # Of runs that are not scored yet, or by an earlier version, the recipe tells which images are meant.
        images = run.facts.get("image_set") or (next(iter(sets)) if len(sets) == 1 else place)
        found.setdefault((task, data, images), Section(task, data, [])).runs.append(run)
    _tell_apart(found)
    return list(found.values())


def comparable(runs: Sequence[ComparedRun], teachers: set[Path], costs: SharedCosts) -> list[dict[str, Any]]:
    """All sections as compare.json has them."""
    ids = count()
    return [one.as_json(f"s{index}", ids, teachers, costs) for index, one in enumerate(sections(runs))]


def _place(run: ComparedRun) -> tuple[str, str, str]:
    return run.record.task, run.record.data, run.scored_place


def _tell_apart(found: dict[tuple[str, str, str], Section]) -> None:
    by_title: dict[tuple[str, str], list[tuple[str, Section]]] = {}
    for (task, data, images), section in found.items():
        by_title.setdefault((task, data), []).append((images, section))
    for alike in by_title.values():
        for index, (_, section) in enumerate(alike if len(alike) > 1 else ()):
            section.suffix = f", images {index + 1}"
            text = f"runs on {section.data} were scored on {len(alike)} different sets of images, a section for each"
            section.notes.append({"level": "red", "text": text})


def _references(rows: Sequence[Row]) -> list[Row]:
    """The teachers of distillations, of which their students' runs know the name and some costs."""
    labels = dict.fromkeys(row.teacher for row in rows if row.teacher)
    taught = {label: [run for row in rows if row.teacher == label for run in row.runs] for label in labels}
    found = []
    for label, runs in taught.items():
        reference = Row([], str(label), "pretrained", "teacher")
        facts = [run.record.facts for run in runs]
        for key in ("params", "macs"):
            if (told := next((one[f"teacher_{key}"] for one in facts if one.get(f"teacher_{key}")), None)) is not None:
                reference.told_costs[key] = told
        found.append(reference)
    return found


def _told(references: Sequence[Row]) -> list[str]:
    return [key for row in references for key in row.told_costs]


def _told_cost(row: Row, key: str) -> Value | None:
    if key not in row.told_costs:
        return None
    told = row.told_costs[key]
    return {"mean": told, "sd": None, "n": 1, "min": told, "max": told, "each": [], "flag": None}


def _quality(row: Row, column: Column) -> Value:
    if not row.runs:
        return missing("the teacher is what its students are measured by")
    if each := row.scores(column.key):
        return fold(list(each.items()))
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
