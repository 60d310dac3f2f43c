"""The picture of the study on NWPU VHR-10: frozen features over what a network costs."""

import statistics
from pathlib import Path

from matplotlib.figure import Figure
from nwpu_recipes import IMAGES, STEPS, STUDENTS
from nwpu_tables import Runs

from distill.report.figures import save

LABELS = "20"  # of each class
TICKS = (0.03, 0.1, 0.3, 1)
SHOWN = {"rs4d_tiny": "RS4D-tiny", "lale_s1": "LALE-S1", "efficientvit_b0": "EfficientViT-B0"}
# Label, colour and marker of what a student has learned, by the beginning of its runs' names.
STARTS = {
    "random/{}": ("random weights", "#8a8a8a", "v"),
    "finetuned/{}-scratch-100": ("trained on all labels, no teacher", "#d95f02", "s"),
    f"distilled/{{}}-{IMAGES}-{STEPS}": ("distilled, no labels", "#1b6ca8", "o"),
}
TEACHERS = {"teacher": "the teacher", "resnet18": "ResNet-18, all labels"}


def draw(runs: Runs, path: Path) -> None:
    """Draws the probes of all students that there are, each at its multiply-adds; bars show the range over seeds.

    Args:
        runs: Of the study.
        path: A PNG file.
    """
    figure = Figure((7.2, 4.4))
    axes = figure.add_subplot()
    for student in STUDENTS:
        at = {name: _point(runs, name.format(student)) for name in STARTS}
        points = {name: point for name, point in at.items() if point is not None}
        for name, (macs, values) in points.items():
            label, colour, marker = STARTS[name]
            mean = statistics.fmean(values)
            bars = [[mean - min(values)], [max(values) - mean]]
            axes.errorbar(macs, mean, bars, fmt=marker, color=colour, capsize=3, markersize=7, label=label)
        if points:
            macs = next(iter(points.values()))[0]
            lowest = min(min(values) for _, values in points.values())
            axes.annotate(SHOWN[student], (macs, lowest), (0, -16), textcoords="offset points", ha="center")
    for name, label in TEACHERS.items():
        if (point := _point(runs, name)) is not None:
            macs, values = point
            axes.plot(macs, values[0], "*", color="#222222", markersize=11)
            axes.annotate(label, (macs, values[0]), (0, -18), textcoords="offset points", ha="center")
    axes.set_xscale("log")
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.minorticks_off()
    axes.set_xlabel("multiply-adds of an image of 128 px, G")
    axes.set_ylabel(f"balanced accuracy with {LABELS} labels a class, %")
    axes.margins(0.12, 0.12)
    axes.grid(alpha=0.25)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))  # one of each
    axes.legend(handles.values(), handles.keys(), frameon=False, loc="lower right")
    axes.set_title("NWPU VHR-10: linear probes of frozen features", loc="left", fontsize=11)
    save(figure, path)


def _point(runs: Runs, name: str) -> tuple[float, list[float]] | None:
    """Billions of multiply-adds, and the probes of all seeds in percent; None where there is no run."""
    found = list(runs.of(name).values())
    if not found:
        return None
    return found[0]["macs"] / 1e9, [100 * one["probes"]["val"][LABELS] for one in found]
