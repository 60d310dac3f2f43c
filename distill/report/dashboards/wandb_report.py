"""The W&B report on some runs: what they show, panels, table, pictures, and how to make them again."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import wandb_workspaces.reports.v2 as wr
from wandb_workspaces import expr

from distill.report.dashboards.fields import identity_of
from distill.report.dashboards.panels import Panels, run_columns
from distill.report.run_record import RunRecord

TITLE = "Students compared"
_INTRODUCTION = (
    "Small students, some of them distilled from a large frozen teacher, compared by quality and cost. The scratch "
    "baseline is the same student and head without distilled weights. Qualities are fractions, costs are those of one "
    "image. A model that no other beats in both quality and cost is on the Pareto front."
)


def report(
    records: Sequence[RunRecord], entity: str, project: str, compared: Mapping[str, Any], table: str
) -> wr.Report:
    """The report on some runs.

    Args:
        records: The runs.
        entity: User or team at W&B; without one, the report can be serialised but not saved.
        project: Where the runs are.
        compared: The content of compare.json.
        table: The comparison as Markdown.
    """
    by_path = {str(record.folder): record for record in records}
    blocks: list[Any] = [wr.P(_INTRODUCTION)]
    for section in compared["sections"]:
        runs = [by_path[path] for row in section["rows"] for path in row["runs"]]
        blocks += _section(section, runs, entity, project)
    blocks.append(wr.MarkdownBlock(table))
    commands = [line for section in compared["sections"] for row in section["rows"] for line in row["commands"]]
    shell = "\n".join(["```sh", *dict.fromkeys(commands), "```"])  # CodeBlock knows no shell
    blocks += [wr.H1("How to reproduce"), wr.MarkdownBlock(shell)]
    return wr.Report(entity=entity, project=project, title=TITLE, blocks=blocks, width="fluid")


def wire(made: wr.Report) -> dict[str, Any]:
    """The JSON of a report as W&B stores it; asks the server for the project, unless the report has no entity."""
    return made._to_model().spec.model_dump(mode="json", by_alias=True, exclude_none=True)


def _section(section: Mapping[str, Any], runs: Sequence[RunRecord], entity: str, project: str) -> list[Any]:
    """What is said of the models that are compared on one data set."""
    panels = Panels(runs)
    runset = {
        "entity": entity,
        "project": project,
        "name": section["title"],
        "filters": [expr.Metric("ID").isin([identity_of(record).id for record in runs])],
        "pinned_columns": run_columns([panels]),
    }
    blocks: list[Any] = [wr.H1(f"{section['title']}, {section['subtitle']}"), wr.P(section["sentence"])]
    blocks += [wr.P(note["text"]) for note in section["notes"]]
    grids: dict[str, list[Any]] = {
        "Quality against cost": [*panels.pareto(), *panels.bars()],
        "Curves": list(panels.curves()),
        "Classes": _wide(panels.classes()),
        "Pictures": _wide(panels.media()),
    }
    for heading, shown in grids.items():
        if shown:
            blocks += [wr.H2(heading), wr.PanelGrid(runsets=[wr.Runset(**runset)], panels=shown)]
    return blocks


def _wide(panels: Iterable[Any]) -> list[Any]:
    """The panels over the whole width of the report."""
    shown = list(panels)
    for panel in shown:
        panel.layout = wr.Layout(w=24, h=12)
    return shown
