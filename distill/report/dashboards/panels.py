"""The panels that compare runs of one task, as far as the runs log what they show."""

from collections.abc import Iterator, Sequence

import wandb_workspaces.reports.v2 as wr

from distill.evaluation.metrics import COSTS, bare
from distill.report.compare.columns import quality_columns, quality_name
from distill.report.dashboards.fields import CLASSES, STEP, logged_names
from distill.report.run_record import RunRecord

MOST_RUNS = 100  # in a panel; the app shows 10 if nothing is said
_HOURS = "hours"
_COMPARED = ("student", "init", "head", "teacher", "dataset", "image_size", "seed")  # what a run is
_ACROSS = ("cpu_ms", "gpu_ms", "macs", "params")  # costs that quality is drawn against
_TRAINED_WITH = ("corruption", "loss", "lr")
_MODEL = wr.Config("model")  # student, initialisation, head and data


class Panels:
    """Panels of runs of one task.

    Args:
        records: The runs.

    Attributes:
        names: What the runs log.
        metrics: The metrics that `distill compare` shows, the main one first.
        quality: Their names in the summary, of those that are in it.
        costs: Names in the summary of the costs.
    """

    def __init__(self, records: Sequence[RunRecord]) -> None:
        self.names = logged_names(records)
        self._split = "test" if records[0].stage == "test" else "val"
        validated = sorted(bare(name) for name in self.names.history if name.startswith("val/"))
        scored = dict.fromkeys([*(key for record in records for key in record.scores(record.stage)), *validated])
        self.metrics = [column.key for column in quality_columns(records[0].task, scored) if column.shown]
        self.quality = {key: name for key in self.metrics if (name := self._summary(key)) is not None}
        self.costs = {key: f"cost_{key}" for key in COSTS if f"cost_{key}" in self.names.summary}

    @property
    def main(self) -> str | None:
        """The main metric; None if no run has been scored."""
        return next(iter(self.quality), None)

    def pareto(self) -> Iterator[wr.ScatterPlot]:
        """The main quality against each cost on a logarithmic axis, a point for each run."""
        for key in _ACROSS:
            if self.main is not None and key in self.costs:
                yield wr.ScatterPlot(
                    title=f"{quality_name(self.main)} against {COSTS[key].name}",
                    x=wr.SummaryMetric(self.costs[key]),
                    y=wr.SummaryMetric(self.quality[self.main]),
                    log_x=True,
                )

    def bars(self) -> Iterator[wr.BarPlot]:
        """The main quality of each model, mean and standard deviation over its runs."""
        if self.main is not None:
            yield wr.BarPlot(
                title=f"{quality_name(self.main)}, mean and standard deviation over runs",
                metrics=[wr.SummaryMetric(self.quality[self.main])],
                groupby=_MODEL,
                groupby_aggfunc="mean",
                groupby_rangefunc="stddev",
                max_runs_to_show=MOST_RUNS,
                max_bars_to_show=MOST_RUNS,
            )

    def parallel(self) -> Iterator[wr.ParallelCoordinatesPlot]:
        """Parallel coordinates over training settings, costs, and the main quality; a line for each run."""
        column = wr.ParallelCoordinatesPlotColumn
        axes = [column(wr.Config(key)) for key in _TRAINED_WITH if key in self.names.config]
        axes += [column(wr.SummaryMetric(name), COSTS[key].name, log=True) for key, name in self.costs.items()]
        if self.main is not None and axes:
            axes.append(column(wr.SummaryMetric(self.quality[self.main]), quality_name(self.main)))
            yield wr.ParallelCoordinatesPlot(title="training, cost and quality", columns=axes)

    def curves(self) -> Iterator[wr.LinePlot]:
        """Validations and training loss by step, the main validation by hours: mean and range of each model's runs."""
        validated = {f"val/{key}": f"validation {quality_name(key)}" for key in self.metrics}
        drawn = [(STEP, name, title) for name, title in {**validated, "train/loss": "training loss"}.items()]
        drawn += [(_HOURS, name, f"{title} by hours") for name, title in list(validated.items())[:1]]
        for axis, name, title in drawn:
            if {axis, name} <= self.names.history:
                yield wr.LinePlot(
                    title=title,
                    x=axis,
                    y=[name],
                    groupby=_MODEL,
                    groupby_aggfunc="mean",
                    groupby_rangefunc="minmax",
                    max_runs_to_show=MOST_RUNS,
                )

    def classes(self) -> Iterator[wr.WeavePanelSummaryTable]:
        """The scores of each class."""
        if CLASSES in self.names.summary:
            yield wr.WeavePanelSummaryTable(table_name=CLASSES)

    def media(self) -> Iterator[wr.MediaBrowser]:
        """The pictures of each image, runs across."""
        for key in sorted(self.names.media):
            yield wr.MediaBrowser(title=key, media_keys=[key], grid_x_axis="run", grid_y_axis="index")

    def _summary(self, metric: str) -> str | None:
        """A metric's name in the summary: of the scores that `distill compare` shows, else of the best validation."""
        flat = metric.replace("/", "_")
        return next((name for name in (f"{self._split}_{flat}", f"best_{flat}") if name in self.names.summary), None)


def run_columns(panels: Sequence[Panels]) -> list[str]:
    """Columns of a run table in the order of `distill compare`: what a run is, its qualities, its costs.

    Args:
        panels: Those of each task of the runs.
    """
    told = (*(["task"] if len(panels) > 1 else []), *_COMPARED)
    config = [f"config:{key}.value" for key in told if any(key in task.names.config for task in panels)]
    quality = dict.fromkeys(name for task in panels for name in task.quality.values())
    costs = {key: name for task in panels for key, name in task.costs.items()}
    return [*config, *(f"summary:{name}" for name in [*quality, *(costs[key] for key in COSTS if key in costs)])]
