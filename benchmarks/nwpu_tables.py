"""The tables of the study on NWPU VHR-10, of the runs that there are."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import console, make_table
from nwpu_recipes import HEADS, IMAGES, SELECTED_FROM, STARTS, STEPS, STUDENTS, TEACHERS
from nwpu_scores import SHOTS, SPLITS
from studying import spread

LABELS = (*map(str, SHOTS), "all")
SCORES = ("mask/AP", "mask/AP50", "box/AP")


class Runs:
    """What is known of the runs of a study.

    Args:
        work: Its folder.
        seeds: Those that are shown.
    """

    def __init__(self, work: Path, seeds: Sequence[int]) -> None:
        self.work, self.seeds = work, seeds

    def of(self, name: str) -> dict[int, dict[str, Any]]:
        """The `study.json` of each seed; of a run without seeds that of seed 0."""
        single = name in TEACHERS or name == "pretrained"
        paths = {seed: self.work / name / ("" if single else str(seed)) / "study.json" for seed in self.seeds}
        if single:
            paths = {0: self.work / name / "study.json"}
        return {seed: json.loads(path.read_text(encoding="utf-8")) for seed, path in paths.items() if path.exists()}


def show(runs: Runs) -> None:
    """Prints all tables; intervals are 95 % t-intervals over seeds."""
    show_probes(runs)
    show_precision(runs)
    show_curve(runs)
    show_selection(runs)


def show_probes(runs: Runs) -> None:
    """Frozen features, beside the teacher's."""
    columns = [f"{labels}{' untied' if split == 'untied' else ''}" for split in SPLITS for labels in LABELS]
    table = make_table("Frozen features: balanced accuracy in percent, labels a class", "", "G MAC", "seeds", *columns)
    rows = {"pretrained ViT": "pretrained", "teacher": "teacher", "ViT from scratch": "vit_scratch"}
    rows |= {"ResNet-18 from scratch": "resnet18"}
    for student in STUDENTS:
        rows |= {f"{student} random": f"random/{student}", f"{student} scratch": f"finetuned/{student}-scratch-100"}
        rows |= {f"{student} distilled": f"distilled/{student}-{IMAGES}-{STEPS}"}
    teacher = runs.of("teacher").get(0)
    for label, name in rows.items():
        if found := runs.of(name):
            values = [[100 * one["probes"][s][labels] for one in found.values()] for s in SPLITS for labels in LABELS]
            macs = next(iter(found.values()))["macs"]
            table.add_row(label, f"{macs / 1e9:.3f}", str(len(found)), *map(spread, values))
            if teacher is not None and "distilled" in label:
                of_teacher = [100 * teacher["probes"][s][labels] for s in SPLITS for labels in LABELS]
                shares = [
                    f"{100 * statistics.fmean(v) / best:.0f} %" for v, best in zip(values, of_teacher, strict=True)
                ]
                table.add_row("  of the teacher's", f"1/{teacher['macs'] / macs:.1f}", "", *shares)
    if table.row_count:
        console.print(table)


def show_precision(runs: Runs) -> None:
    """Fine-tuned models, and the gain of distilled weights, or of the light head, on the same labels."""
    columns = [f"{score}{' untied' if split == 'untied' else ''}" for split in SPLITS for score in SCORES]
    table = make_table("Fine-tuned: average precision in percent", "", "labels", "seeds", *columns)
    for teacher in TEACHERS:
        if found := runs.of(teacher):
            table.add_row(teacher, "100 %", "1", *(spread(v) for v in precisions(list(found.values()))))
    two = [(f"{percent} %", [f"scratch-{percent}", f"distilled-{percent}"]) for percent in (10, 25, 100)]
    for labels, names in [*two, ("100 %", [f"distilled-100-{head}" for head in HEADS])]:
        pair = [runs.of(f"finetuned/rs4d_tiny-{name}") for name in names]
        for name, found in zip(names, pair, strict=True):
            if found:
                start, _, *head = name.split("-")
                label = " ".join(["rs4d_tiny", start, *head])
                table.add_row(label, labels, str(len(found)), *map(spread, precisions(list(found.values()))))
        if seeds := sorted(pair[0].keys() & pair[1].keys()):
            before, after = (precisions([found[seed] for seed in seeds]) for found in pair)
            gains = [[b - a for a, b in zip(*both, strict=True)] for both in zip(before, after, strict=True)]
            table.add_row("  gain", labels, str(len(seeds)), *map(spread, gains))
    if table.row_count:
        console.print(table)


def precisions(found: list[dict[str, Any]]) -> list[list[float]]:
    """By column, the values of the runs."""
    return [[100 * one["ap"][split][score] for one in found] for split in SPLITS for score in SCORES]


def show_curve(runs: Runs) -> None:
    """Students by how many unlabelled images they saw, for how many steps."""
    table = make_table(
        "Gain without labels: RS4D-tiny, probe on 20 labels a class", "images", "steps", "seeds", *SPLITS
    )
    folders = {path.name for path in (runs.work / "distilled").glob("rs4d_tiny-*")}
    settings = sorted(tuple(int(number) for number in name.split("-")[1:]) for name in folders)
    for images, steps in settings:
        if found := runs.of(f"distilled/rs4d_tiny-{images}-{steps}"):
            values = [[100 * one["probes"][split]["20"] for one in found.values()] for split in SPLITS]
            table.add_row(f"{images:,}", f"{steps:,}", str(len(found)), *map(spread, values))
    if table.row_count:
        console.print(table)


def show_selection(runs: Runs) -> None:
    """Fine-tuned models on the training images that are left out, by learning rate."""
    title = "Learning rates: RS4D-tiny, a quarter of the labels, average precision on training images left out"
    table = make_table(title, "", "learning rate", "seeds", *SCORES)
    for start in STARTS:
        for lr in SELECTED_FROM:
            if found := runs.of(f"selected/rs4d_tiny-{start}-25-{lr}"):
                values = [[100 * one["ap"]["select"][score] for one in found.values()] for score in SCORES]
                table.add_row(start, f"{lr:g}", str(len(found)), *map(spread, values))
    if table.row_count:
        console.print(table)
