"""The W&B workspace that compares students: run table, delta columns, and a section of panels for each task."""

from collections.abc import Sequence
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr

from distill.evaluation.metrics import metric_of
from distill.report.dashboards.fields import STEP, identity_of
from distill.report.dashboards.panels import MOST_RUNS, Panels, run_columns
from distill.report.run_record import TASKS, RunRecord

_NAME = "Students compared"


def workspace(records: Sequence[RunRecord], entity: str, project: str) -> ws.Workspace:
    """The workspace of some runs, without panels for what none of them logs.

    Args:
        records: The runs.
        entity: User or team at W&B.
        project: Where the runs are.
    """
    tasks = dict.fromkeys([*TASKS, *(record.task for record in records)])
    by_task = {task: [record for record in records if record.task == task] for task in tasks}
    panels = {task: Panels(runs) for task, runs in by_task.items() if runs}
    recipes = ws.Section(name="Recipes", panels=[wr.RunComparer(diff_only=True)])
    baseline = scratch_baseline(records)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=_NAME,
        sections=[*(_section(TASKS.get(task, task), found) for task, found in panels.items()), recipes],
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=MOST_RUNS),
        runset_settings=ws.RunsetSettings(
            pinned_columns=run_columns(list(panels.values())),
            order=_order(list(panels.values())),
            baseline_run=None if baseline is None else identity_of(baseline).id,
        ),
    )


def wire(made: ws.Workspace) -> dict[str, Any]:
    """The JSON of a workspace, as W&B stores it."""
    found: dict[str, Any] = made._to_model().spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return found


def scratch_baseline(records: Sequence[RunRecord]) -> RunRecord | None:
    """The run that others are compared with: the scratch baseline of a student that has runs with other weights, too.

    Of several, the one with the lowest seed; None where there is none.
    """
    others = {_model(record) for record in records if record.init != "scratch"}
    scratch = [record for record in records if record.init == "scratch" and record.task != "distillation"]
    return min((record for record in scratch if _model(record) in others), key=lambda one: one.seed, default=None)


def _model(record: RunRecord) -> tuple[object, ...]:
    """What a model and its scratch baseline have in common."""
    return record.task, record.data, record.student, record.facts.get("params"), record.head


def _section(title: str, panels: Panels) -> ws.Section:
    shown: list[Any] = [*panels.pareto(), *panels.bars(), *panels.parallel(), *panels.curves(), *panels.classes()]
    layout = ws.SectionLayoutSettings(columns=3, rows=3)
    return ws.Section(name=title, panels=[*shown, *panels.media()], is_open=True, layout_settings=layout)


def _order(panels: Sequence[Panels]) -> list[expr.Ordering]:
    """The best run first, by the main metric of the last task; distillations come before what they are for."""
    scored = [(task.main, task) for task in panels if task.main is not None]
    if not scored:
        return [expr.Ordering(expr.Metric("CreatedTimestamp"), ascending=False)]
    main, task = scored[-1]
    return [expr.Ordering(expr.Summary(task.quality[main]), ascending=metric_of(main).better == "min")]
