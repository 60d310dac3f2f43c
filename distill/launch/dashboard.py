"""Run folders at W&B: offline runs, the line that sends them, and the workspace and the report that compare them."""

import json
import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.files import write_text
from distill.report.compare.comparison import compare_records
from distill.report.dashboards.fields import logged_names
from distill.report.dashboards.identity import by_id
from distill.report.run_record import RunRecord
from distill.runs.listing import run_folders

PLACE = Path("runs/dashboard")
WORKSPACE = "workspace.json"
_PACKAGES = ("wandb", "wandb_workspaces")


@dataclass(frozen=True)
class Linted:
    """The workspace as it would be saved, and whether its names are logged.

    Attributes:
        workspace: The JSON of the workspace.
        names: How many names the workspace and the report use.
        panels: How many panels they have.
        problems: A line for each name that no run logs.
    """

    workspace: dict[str, Any]
    names: int
    panels: int
    problems: list[str]


@dataclass(frozen=True)
class Dashboard:
    """Some runs, and where they go at W&B.

    Attributes:
        records: The runs.
        passed_over: Paths that were given and are no run folders.
        project: Project at W&B.
        entity: User or team at W&B; None for that of the key.
    """

    records: list[RunRecord]
    passed_over: list[Path]
    project: str
    entity: str | None

    @classmethod
    def read(
        cls, runs: Sequence[str | PathLike[str]], project: str | None = None, entity: str | None = None
    ) -> "Dashboard":
        """Reads run folders.

        Args:
            runs: Run folders; one of several seeds stands for them all, and what is no run is passed over.
            project: As live logging has it, if it is not given: WANDB_PROJECT, else "distill".
            entity: As live logging has it, if it is not given: WANDB_ENTITY, else that of the key.

        Raises:
            UserError: There is no run among them, two of them are one run at W&B, or W&B's packages are not installed.
        """
        if missing := [name for name in _PACKAGES if find_spec(name) is None]:
            raise UserError(f"distill dashboard needs {' and '.join(missing)}; pip install 'distill-rs[wandb]'")
        folders, others = run_folders(runs)
        project = project or os.environ.get("WANDB_PROJECT") or "distill"
        records = [RunRecord.read(folder) for folder in folders]
        by_id(records)
        return cls(records, others, project, entity or os.environ.get("WANDB_ENTITY"))

    def lint(self) -> Linted:
        """Builds workspace and report without a server, and looks for names that no run logs."""
        from distill.report.dashboards import lint, wandb_report, workspace

        views = {
            "workspace": workspace.wire(workspace.workspace(self.records, self.entity or "", self.project)),
            "report": wandb_report.wire(self._report("")),
        }
        names = logged_names(self.records)
        used = {(use.kind, use.name) for view in views.values() for use in lint.uses(view)}
        return Linted(
            workspace=views["workspace"],
            names=len(used),
            panels=sum(map(lint.count_panels, views.values())),
            problems=[f"{name}: {line}" for name, view in views.items() for line in lint.lint(view, names)],
        )

    def write_offline(self, place: Path, shown: Callable[[list[RunRecord]], Iterable[RunRecord]] = iter) -> list[Path]:
        """Writes an offline run for each run folder.

        Args:
            place: The folder that gets them.
            shown: Passes the runs on one by one, and shows how far it has come.

        Returns:
            Their folders.
        """
        from distill.report.dashboards.offline import write_all

        return write_all(self.records, place, shown)

    def sync_line(self, offline: Sequence[Path]) -> str:
        """The command that sends offline runs to W&B."""
        place = offline[0].parent
        if set(place.glob("offline-run-*")) == set(offline):
            given = [f"{shlex.quote(str(place))}/offline-run-*"]
        else:  # runs of other dashboards lie beside them
            given = [shlex.quote(str(path)) for path in offline]
        to = ["--project", self.project, *(["--entity", self.entity] if self.entity else [])]
        return " ".join(["wandb", "sync", *map(shlex.quote, to), *given])

    def save(self) -> dict[str, str] | None:
        """Saves workspace and report at W&B.

        Returns:
            Their addresses; None without a key.

        Raises:
            UserError: The server does not answer, or refuses.
        """
        from distill.report.dashboards import connection
        from distill.report.dashboards.workspace import workspace

        if not connection.has_key():
            return None
        own = connection.entity_of_key()
        entity = self.entity or own
        connection.require_project(entity, self.project)
        return {
            "workspace": connection.save(workspace(self.records, entity, self.project)),
            "report": connection.save(self._report(entity)),
        }

    def _report(self, entity: str) -> Any:
        from distill.report.dashboards.wandb_report import report

        command = shlex.join(["distill", "compare", *(str(record.folder) for record in self.records)])
        compared = compare_records(self.records, command)
        return report(self.records, entity, self.project, compared.as_json(), compared.markdown())


def write_workspace(linted: Linted, place: Path) -> str:
    """Writes the workspace's JSON into a folder, and returns it."""
    text = json.dumps(linted.workspace, indent=2) + "\n"
    write_text(place / WORKSPACE, text)
    return text
