"""A name that no run logs is seen wherever a workspace or a report can use one."""

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("wandb_workspaces")

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr

from distill.report.dashboards.fields import Names
from distill.report.dashboards.lint import count_panels, lint
from distill.report.dashboards.workspace import wire

NAMES = Names(
    config=frozenset({"student"}),
    summary=frozenset({"test_mask_AP", "test_classes"}),
    history=frozenset({"val/l1", "trainer/global_step"}),
    media=frozenset({"maps/a.png"}),
)
SUMMARY, CONFIG, HISTORY, MEDIA, TABLE = "test_mask_AP", "student", "val/l1", "maps/a.png", "test_classes"
PANELS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "Scatter Plot, xAxis": (SUMMARY, lambda name: wr.ScatterPlot(x=wr.SummaryMetric(name))),
    "Scatter Plot, yAxis": (SUMMARY, lambda name: wr.ScatterPlot(y=name)),
    "Scatter Plot, zAxis": (CONFIG, lambda name: wr.ScatterPlot(z=wr.Config(name))),
    "Scatter Plot, legendTemplate": (CONFIG, lambda name: wr.ScatterPlot(legend_template=f"${{config:{name}}}")),
    "Bar Chart, metrics": (SUMMARY, lambda name: wr.BarPlot(metrics=[wr.SummaryMetric(name)])),
    "Bar Chart, groupBy": (CONFIG, lambda name: wr.BarPlot(groupby=wr.Config(name))),
    "Bar Chart, expressions": (HISTORY, lambda name: wr.BarPlot(custom_expressions=[f"2 * ${{{name}}}"])),
    "Parallel Coordinates Plot, accessor": (
        CONFIG,
        lambda name: wr.ParallelCoordinatesPlot(columns=[wr.ParallelCoordinatesPlotColumn(wr.Config(name))]),
    ),
    "Run History Line Plot, metrics": (HISTORY, lambda name: wr.LinePlot(y=[name])),
    "Run History Line Plot, xAxis": (HISTORY, lambda name: wr.LinePlot(x=name)),
    "Run History Line Plot, groupBy": (CONFIG, lambda name: wr.LinePlot(groupby=wr.Config(name))),
    "Run History Line Plot, legendFields": (
        CONFIG,
        lambda name: wr.LinePlot(legend_fields=["run:displayName", f"config:{name}.value"]),
    ),
    "Scalar Chart, metrics": (SUMMARY, lambda name: wr.ScalarChart(metric=wr.SummaryMetric(name))),
    "Parameter Importance, targetKey": (SUMMARY, lambda name: wr.ParameterImportancePlot(with_respect_to=name)),
    "Media Browser, mediaKeys": (
        MEDIA,
        lambda name: wr.MediaBrowser(media_keys=[name], grid_x_axis="run", grid_y_axis="index"),
    ),
    "Vega2, tableKey": (TABLE, lambda name: wr.CustomChart.from_table(name, chart_fields={}, chart_strings={})),
    "Vega2, config": (CONFIG, lambda name: wr.CustomChart(query={"config": {"keys": [name]}})),
    "Weave, table": (TABLE, lambda name: wr.WeavePanelSummaryTable(table_name=name)),
}
RUN_SETS: dict[str, tuple[str, Callable[[str], ws.RunsetSettings]]] = {
    "columnPinned": (SUMMARY, lambda name: ws.RunsetSettings(pinned_columns=[f"summary:{name}"])),
    "columnOrder": (CONFIG, lambda name: ws.RunsetSettings(pinned_columns=[f"config:{name}.value"])),
    "filters": (CONFIG, lambda name: ws.RunsetSettings(filters=[expr.Config(name) == "RS4D tiny"])),
    "grouping": (CONFIG, lambda name: ws.RunsetSettings(groupby=[expr.Config(name)])),
    "sort": (SUMMARY, lambda name: ws.RunsetSettings(order=[expr.Ordering(expr.Summary(name))])),
}


def of_panel(panel: Any) -> ws.Workspace:
    return ws.Workspace("me", "distill", sections=[ws.Section(name="Here", panels=[panel])])


@pytest.mark.parametrize("place", PANELS)
def test_a_wrong_name_in_a_panel_is_seen(place: str) -> None:
    logged, make = PANELS[place]
    right, wrong = wire(of_panel(make(logged))), wire(of_panel(make(f"{logged}_of_nobody")))
    assert count_panels(right) == 1
    assert lint(right, NAMES) == []
    (line,) = lint(wrong, NAMES)
    assert line.startswith(f"section 'Here', {place}: no run logs '{logged}_of_nobody'")


@pytest.mark.parametrize("place", RUN_SETS)
def test_a_wrong_name_in_a_run_set_is_seen(place: str) -> None:
    logged, make = RUN_SETS[place]
    right, wrong = (wire(ws.Workspace("me", "p", runset_settings=make(name))) for name in (logged, f"{logged}_x"))
    assert lint(right, NAMES) == []
    assert any(line.startswith(f"run set, {place}: no run logs '{logged}_x'") for line in lint(wrong, NAMES))


def test_a_name_of_another_kind_is_wrong() -> None:
    """An axis of a scatter plot reads the summary, whatever else has this name."""
    for panel in (
        wr.ScatterPlot(x=HISTORY),
        wr.ScatterPlot(x=wr.Metric(HISTORY)),
        wr.ScatterPlot(y=wr.Config(SUMMARY)),
    ):
        assert len(lint(wire(of_panel(panel)), NAMES)) == 1
    assert lint(wire(of_panel(wr.LinePlot(x="Step", y=[SUMMARY]))), NAMES)
    assert not lint(wire(of_panel(wr.LinePlot(x="Step", y=[HISTORY], groupby="Group"))), NAMES)


def test_a_wrong_x_axis_of_all_panels_is_seen() -> None:
    made = ws.Workspace("me", "distill", settings=ws.WorkspaceSettings(x_axis="trainer/step"))
    assert lint(wire(made), NAMES) == ["settings, xAxis: no run logs 'trainer/step' (history)"]


def test_panels_of_reports_are_read_as_well() -> None:
    grid = wr.PanelGrid(
        runsets=[wr.Runset(pinned_columns=["summary:nothing"])], panels=[wr.ScatterPlot(x="nobody", title="a")]
    )
    made = (
        wr.Report(project="distill", entity="", blocks=[grid])._to_model().spec.model_dump(mode="json", by_alias=True)
    )
    found = lint(made, NAMES)
    assert [line for line in found if "Scatter Plot 'a', xAxis: no run logs 'nobody'" in line]
    assert [line for line in found if line.startswith("run set, columnPinned: no run logs 'nothing'")]
