"""Details of `distill test` for instances: scores by class and size, precision over recall, and confusions.

Axes: K classes; row or column K of a confusion matrix is the background.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table

from distill.evaluation.coco import CocoEvaluator
from distill.evaluation.confusion import IOU, SCORE
from distill.evaluation.scores import Scores
from distill.evaluation.units import percent
from distill.report.class_tables import class_table, matrix_figure, rounded, write_rows
from distill.report.figures import save
from distill.report.metric_names import MetricName
from distill.runs.folder import RunFolder

CURVES = (50, 75)  # IoU thresholds, in percent
MOST_NAMED = 20  # classes with a line of their own


def write_details(folder: RunFolder, stage: str, evaluator: CocoEvaluator, scores: Mapping[str, Scores]) -> list[str]:
    """Writes `<stage>_classes.csv`, `<stage>_confusion.png`, and `<stage>_precision_recall.png` where anything was
    found; returns their names."""
    rows, curves, confusion = (
        folder.class_scores(stage),
        folder.figure(stage, "precision_recall"),
        folder.figure(stage, "confusion"),
    )
    write_rows(rows, class_rows(scores, evaluator.objects()))
    save(confusion_figure(evaluator.confusion(), evaluator.class_names), confusion)
    if not any((found.precision > 0).any() for found in scores.values()):
        curves.unlink(missing_ok=True)  # of an earlier test
        return [rows.name, confusion.name]
    save(precision_recall_figure(scores), curves)
    return [rows.name, confusion.name, curves.name]


def class_rows(scores: Mapping[str, Scores], objects: Mapping[str, int]) -> list[dict[str, object]]:
    """A row for each kind and class: number of objects, AP, AP50, AP75, AP by size, AR, as fractions."""
    return [
        {"kind": kind, "class": name, "objects": objects[name]} | rounded(row)
        for kind, found in scores.items()
        for name, row in found.by_class().items()
    ]


def instance_tables(scores: Mapping[str, Scores], objects: Mapping[str, int]) -> list[Table]:
    """The tables of the console, in percent: the means of each kind, and the AP of every class with objects."""
    summaries = {kind: found.summary() for kind, found in scores.items()}
    columns = [key for key in next(iter(summaries.values())) if not MetricName.parse(f"box/{key}").of_class]
    means = {kind: [percent(summary[key]) for key in columns] for kind, summary in summaries.items()}
    by_class = {
        name: [f"{count:,}", *(percent(summary[f"AP/{name}"]) for summary in summaries.values())]
        for name, count in objects.items()
    }
    return [
        class_table(means, columns, heading="%"),
        class_table(by_class, ["objects", *(f"{kind} AP" for kind in summaries)]),
    ]


def precision_recall_figure(scores: Mapping[str, Scores]) -> Figure:
    """Precision over recall: a row for each kind, a column for each IoU, a line for each class and their mean."""
    figure = Figure(figsize=(4.2 * len(CURVES), 3.4 * len(scores)), layout="constrained")
    grid = figure.subplots(len(scores), len(CURVES), squeeze=False, sharex=True, sharey=True)
    for axes_row, (kind, found) in zip(grid, scores.items(), strict=True):
        recall = np.linspace(0, 1, found.precision.shape[1])
        for axes, threshold in zip(axes_row, CURVES, strict=True):
            curve = found.curve(threshold)
            exists = ~np.isnan(curve).all(axis=0)
            if len(found.class_names) <= MOST_NAMED:
                for k in np.flatnonzero(exists):
                    style, colour = divmod(int(k), 10)  # ten colours that are told apart in thin lines, twice
                    axes.plot(recall, curve[:, k], f"C{colour}", ls="-:"[style], lw=1.3, label=found.class_names[k])
            if exists.any():
                axes.plot(recall, curve[:, exists].mean(axis=1), color="black", lw=2.5, label="mean")
            axes.set(title=f"{kind}, IoU {threshold / 100:g}", xlabel="recall", ylabel="precision")
            axes.set(xlim=(0, 1), ylim=(0, 1.02))
            axes.label_outer()
            axes.spines[["top", "right"]].set_visible(False)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    return figure


def confusion_figure(counts: NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """A confusion matrix (K + 1, K + 1) with its counts; colours are shares of the true class.

    Objects that nothing found are in the last column, instances where nothing is in the last row.
    """
    title = f"masks, IoU ≥ {IOU:g}, score ≥ {SCORE:g}"
    rows, columns = [*class_names, "background"], [*class_names, "missed"]
    return matrix_figure(counts, rows, columns, lambda count, share: str(count), title)
