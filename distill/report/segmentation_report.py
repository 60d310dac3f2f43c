"""Details of `distill test` for land cover: scores by class, and the confusion matrix.

Axes: K classes in label order; rows of the matrix are true classes, columns predicted ones.
"""

from matplotlib.figure import Figure
from rich.table import Table

from distill.evaluation.segmentation import PixelConfusion
from distill.evaluation.units import percent
from distill.report.class_tables import class_table, matrix_figure, rounded, write_rows
from distill.report.figures import save
from distill.report.metric_names import MetricName
from distill.runs.folder import RunFolder


def write_pixel_details(folder: RunFolder, stage: str, confusion: PixelConfusion) -> list[str]:
    """Writes `<stage>_classes.csv` and `<stage>_confusion.png`; returns their names."""
    table, picture = folder.class_scores(stage), folder.figure(stage, "confusion")
    rows = [
        {"class": name, "images": int(row.pop("images")), "pixels": int(row.pop("pixels"))} | rounded(row)
        for name, row in confusion.by_class().items()
    ]
    write_rows(table, rows)
    save(pixel_confusion_figure(confusion), picture)
    return [table.name, picture.name]


def pixel_tables(confusion: PixelConfusion) -> list[Table]:
    """The tables of the console, in percent: the means, and the scores of every class."""
    scores = confusion.summary().items()
    means = {key: [percent(value)] for key, value in scores if not MetricName.parse(key).of_class}
    rows = {
        name: [f"{row.pop('images'):,.0f}", f"{row.pop('pixels'):,.0f}", *map(percent, row.values())]
        for name, row in confusion.by_class().items()
    }
    columns = ["images", "pixels", "IoU", "F1", "precision", "recall"]
    return [class_table(means, ["%"], heading="mean"), class_table(rows, columns)]


def pixel_confusion_figure(confusion: PixelConfusion) -> Figure:
    """The confusion matrix as shares of the true class, in percent; cells below half a percent stay empty."""
    counts = confusion.counts.cpu().numpy()
    names, title = confusion.class_names, "pixels, percent of the true class"
    return matrix_figure(counts, names, names, _whole_percent, title)


def _whole_percent(count: int, share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.005 else ""
