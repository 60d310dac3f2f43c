"""Which runs can be compared: those of one task that were scored on the same images."""

from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from distill.report.compare.compared_run import ComparedRun
from distill.report.compare.costs import SharedCosts
from distill.report.compare.section import Section


def comparable(runs: Sequence[ComparedRun], teachers: set[Path], costs: SharedCosts) -> list[dict[str, Any]]:
    """All sections as compare.json has them."""
    ids = count()
    return [one.as_json(f"s{index}", ids, teachers, costs) for index, one in enumerate(sections(runs))]


def sections(runs: Sequence[ComparedRun]) -> list[Section]:
    """Runs by task and the images that were scored, in the order of their first run; distillations last."""
    by_place: dict[tuple[str, str], Counter[str]] = {}
    for run in runs:
        sets = by_place.setdefault((run.record.task, run.scored_place), Counter())
        sets.update([run.facts["image_set"]] if "image_set" in run.facts else [])
    found: dict[tuple[str, str], Section] = {}
    for run in runs:
        task, place = run.record.task, run.scored_place
        sets = by_place[task, place]
        # Of a run that is not scored yet, or by an earlier version, the recipe tells which images are meant.
        told = len(sets) == 1 or (sets and not run.scores)
        images = run.facts.get("image_set") or (sets.most_common(1)[0][0] if told else place)
        section = found.setdefault((task, images), Section(task, run.record.data, []))
        section.runs.append(run)
        if run.scores and sets and "image_set" not in run.facts:
            text = f"{run.path} is of an earlier version, which did not record what images were scored"
            section.notes.append({"level": "info", "text": text})
    _tell_apart(list(found.values()))
    return sorted(found.values(), key=lambda section: section.task == "distillation")


def _tell_apart(found: Sequence[Section]) -> None:
    by_title: dict[tuple[str, str], list[Section]] = {}
    for section in found:
        by_title.setdefault((section.task, section.data), []).append(section)
    for alike in by_title.values():
        for index, section in enumerate(alike if len(alike) > 1 else ()):
            section.suffix = f", image set {index + 1}"
            text = f"runs on {section.data} were scored on {len(alike)} different sets of images, a section for each"
            section.notes.append({"level": "red", "text": text})
