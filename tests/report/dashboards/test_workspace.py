"""The workspace and the report of a mixture of runs, without a server: what they show, and that all of it is logged."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wandb_workspaces")

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from distill.report.compare.comparison import compare_records
from distill.report.dashboards import wandb_report
from distill.report.dashboards.fields import identity_of, logged_names
from distill.report.dashboards.lint import lint, uses
from distill.report.dashboards.workspace import scratch_baseline, wire, workspace
from distill.report.run_record import RunRecord
from tests.run_folders import write_mixture, write_run


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[RunRecord]:
    return [RunRecord.read(folder) for folder in write_mixture(tmp_path_factory.mktemp("runs"))]


def panels_of(made: ws.Workspace, kind: type) -> list[Any]:
    return [panel for section in made.sections for panel in section.panels if isinstance(panel, kind)]


def test_every_name_is_logged_and_every_task_has_its_section(records: list[RunRecord]) -> None:
    made = workspace(records, "me", "distill")
    assert lint(wire(made), logged_names(records)) == []
    assert [section.name for section in made.sections] == [
        "Distillation",
        "Instance segmentation",
        "Semantic segmentation",
        "Recipes",
    ]
    assert made.settings.max_runs == 100
    assert {panel.title for panel in panels_of(made, wr.ScatterPlot)} >= {
        "mask AP against CPU latency",
        "mask AP against parameters",
        "mIoU against CPU latency",
        "l1 ratio against parameters",
    }
    assert all(panel.log_x for panel in panels_of(made, wr.ScatterPlot))
    bars = panels_of(made, wr.BarPlot)
    assert [panel.metrics[0].name for panel in bars] == ["val_l1_ratio", "test_mask_AP", "test_mIoU"]
    assert {(panel.groupby_aggfunc, panel.groupby_rangefunc) for panel in bars} == {("mean", "stddev")}
    assert [panel.media_keys for panel in panels_of(made, wr.MediaBrowser)] == [
        ["maps/a"],
        ["maps/b"],
        ["predictions/a"],
        ["predictions/b"],
    ]
    assert len(panels_of(made, wr.WeavePanelSummaryTable)) == 2
    curves = {(panel.x, panel.y[0]) for panel in panels_of(made, wr.LinePlot)}
    assert {("trainer/global_step", "val/l1_ratio"), ("trainer/global_step", "train/loss")} <= curves
    assert {("hours", "val/mask/AP"), ("hours", "val/l1_ratio")} <= curves
    (lines, *_) = panels_of(made, wr.ParallelCoordinatesPlot)
    assert [column.display_name for column in lines.columns][-1] == "l1 ratio"


def test_no_use_of_a_name_escapes_the_lint(records: list[RunRecord]) -> None:
    """Whatever text of the JSON holds a name of the summary or of a picture is among the uses."""
    content = wire(workspace(records, "me", "distill"))
    titles = re.compile(r'"(?:chartTitle|displayName)": "[^"]*"')
    text = titles.sub('"": ""', json.dumps(content))
    written = set(re.findall(r"\b(?:test|val|best|cost)_\w+|\b(?:maps|predictions|val|train)/[\w/]+", text))
    assert written == {use.name for use in uses(content) if use.kind in ("summary", "media") or use.name in written} - {
        "trainer/global_step"
    }


def test_columns_are_those_of_the_comparison(records: list[RunRecord]) -> None:
    some = [record for record in records if record.task == "instances" and record.finished]
    (section,) = compare_records(some).as_json()["sections"]
    compared = [column["key"] for column in section["columns"] if column["shown"] and column["group"] != "gain"]
    pinned = workspace(some, "me", "distill").runset_settings.pinned_columns
    shown = [column.removeprefix("summary:") for column in pinned if column.startswith("summary:")]
    costs = {"params", "macs", "cpu_ms", "memory_mb", "size_mb", "train_hours"}
    assert shown == [f"cost_{key}" if key in costs else f"test_{key.replace('/', '_')}" for key in compared]
    told = [column for column in pinned if column not in {f"summary:{name}" for name in shown}]
    assert told[0] == "run:displayName"
    assert told[1:3] == ["config:student.value", "config:init.value"]


def test_the_baseline_is_the_scratch_run_of_a_student_with_distilled_runs(records: list[RunRecord]) -> None:
    """Not the teacher, which is trained from scratch, too."""
    baseline = scratch_baseline(records)
    assert baseline is not None
    assert baseline.folder.name == "rs4d_tiny_scratch_0"
    run_set = wire(workspace(records, "me", "distill"))["section"]["runSets"][0]
    stored = base64.b64decode(run_set["baselineRunId"]).decode()
    assert stored == f"Run:v1:{identity_of(baseline).id}:distill:me"
    assert run_set["pinnedRunIds"] == [run_set["baselineRunId"]]
    assert scratch_baseline([record for record in records if record.init == "scratch"]) is None


def test_the_wire_form_is_read_back_unchanged(records: list[RunRecord]) -> None:
    made = workspace(records, "me", "distill")
    read = ws.Workspace._from_model(made._to_model())
    assert wire(read) == wire(made)
    assert [section.name for section in read.sections] == [section.name for section in made.sections]
    assert read.runset_settings.baseline_run == made.runset_settings.baseline_run


def test_there_are_no_panels_for_what_no_run_logs(tmp_path: Path) -> None:
    write_run(tmp_path / "unscored", costs={"params": 1e6}, history=[{"step": 1, "train/loss": 1.0}])
    write_run(tmp_path / "unfinished", finished=False)
    some = [RunRecord.read(write_run(tmp_path / name, finished=False)) for name in ("one", "two")]
    made = workspace(some, "me", "distill")
    assert [len(section.panels) for section in made.sections] == [0, 1]
    assert lint(wire(made), logged_names(some)) == []


def test_the_report_has_a_section_for_each_comparison(records: list[RunRecord]) -> None:
    compared = compare_records(records)
    content = compared.as_json()
    made = wandb_report.report(records, "", "distill", content, compared.markdown())
    assert lint(wandb_report.wire(made), logged_names(records)) == []
    headings = [block.text for block in made.blocks if isinstance(block, wr.H1)]
    assert headings == [*(f"{one['title']}, {one['subtitle']}" for one in content["sections"]), "How to reproduce"]
    said = [block.text for block in made.blocks if isinstance(block, wr.P)]
    assert {section["sentence"] for section in content["sections"]} <= set(said)
    table, commands = (block.text for block in made.blocks if isinstance(block, wr.MarkdownBlock))
    assert table == compared.markdown()
    assert commands.startswith("```sh\ndistill ")
    grids = [block for block in made.blocks if isinstance(block, wr.PanelGrid)]
    kinds = {type(panel) for grid in grids for panel in grid.panels}
    assert {wr.ScatterPlot, wr.BarPlot, wr.LinePlot, wr.MediaBrowser, wr.WeavePanelSummaryTable} <= kinds
    for section in content["sections"]:
        (filters, *_) = [grid.runsets[0].filters for grid in grids if grid.runsets[0].name == section["title"]]
        shown = {path for row in section["rows"] for path in row["runs"]}
        ids = {identity_of(record).id for record in records if str(record.folder) in shown}
        assert set(re.findall(r"'(\w{8,})'", filters)) == ids
