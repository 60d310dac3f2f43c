"""What `distill test` leaves of a segmentation beside its averages: scores by class, and which is taken for which.

Axes: K classes in label order; rows of the matrix are true classes, columns predicted ones.
"""

import csv
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from distill.checkpoint import write_atomically
from distill.evaluation.segmentation import PixelConfusion
from distill.report.figures import save


def write_pixel_details(folder: Path, stage: str, confusion: PixelConfusion) -> list[str]:
    """Writes `<stage>_classes.csv` and `<stage>_confusion.png`; returns their names."""
    names = [f"{stage}_classes.csv", f"{stage}_confusion.png"]
    rows = [
        {"class": name, "pixels": int(row.pop("pixels"))}
        | {key: "" if math.isnan(value) else round(value, 6) for key, value in row.items()}
        for name, row in confusion.by_class().items()
    ]

    def write(path: Path) -> None:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(folder / names[0], write)
    save(pixel_confusion_figure(confusion), folder / names[1])
    return names


def pixel_confusion_figure(confusion: PixelConfusion) -> Figure:
    """The confusion matrix as shares of the true class, in percent; a class that is not there has an empty row."""
    counts = confusion.counts.cpu().numpy()
    sums = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, sums, out=np.zeros(counts.shape), where=sums > 0)
    side = 2.6 + 0.55 * len(counts)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        if counts[row, column]:
            shade = "white" if share > 0.5 else "black"
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=shade, fontsize=8)
    ticks = range(len(counts))
    axes.set_xticks(ticks, confusion.class_names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, confusion.class_names)
    axes.set(xlabel="predicted", ylabel="true", title="pixels, percent of the true class")
    return figure
