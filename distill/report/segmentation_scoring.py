"""What `distill test` leaves of a segmentation beside its averages: scores by class, and which is taken for which.

Axes: K classes in label order; rows of the matrix are true classes, columns predicted ones.
"""

import math
from pathlib import Path

from matplotlib.figure import Figure

from distill.evaluation.segmentation import PixelConfusion
from distill.report.class_tables import matrix_figure, write_rows
from distill.report.figures import save


def write_pixel_details(folder: Path, stage: str, confusion: PixelConfusion) -> list[str]:
    """Writes `<stage>_classes.csv` and `<stage>_confusion.png`; returns their names."""
    names = [f"{stage}_classes.csv", f"{stage}_confusion.png"]
    rows = [
        {"class": name, "pixels": int(row.pop("pixels"))}
        | {key: "" if math.isnan(value) else round(value, 6) for key, value in row.items()}
        for name, row in confusion.by_class().items()
    ]
    write_rows(folder / names[0], rows)
    save(pixel_confusion_figure(confusion), folder / names[1])
    return names


def pixel_confusion_figure(confusion: PixelConfusion) -> Figure:
    """The confusion matrix as shares of the true class, in percent; a class that is not there has an empty row."""
    counts = confusion.counts.cpu().numpy()
    names, title = confusion.class_names, "pixels, percent of the true class"
    return matrix_figure(counts, names, names, lambda count, share: f"{100 * share:.0f}", title)
