"""`distill dashboard RUN...`: runs as W&B dashboards, also runs that were made without W&B."""

from pathlib import Path

from rich.markup import escape
from rich.progress import track
from rich.table import Table

from distill.cli.console import table_console
from distill.cli.parser import VerbParser
from distill.errors import UserError
from distill.evaluation.units import counted
from distill.launch.dashboard import PLACE, WORKSPACE, Dashboard, write_workspace


def run(words: list[str]) -> None:
    """Runs `distill dashboard RUN... [--out DIR] [--project NAME] [--entity NAME] [--dry-run]`.

    Raises:
        UserError: No run is given, W&B is not installed or does not answer, or a panel's name is not logged.
    """
    arguments = parser().parse_args(words[1:])
    dashboard = Dashboard.read(arguments.runs, arguments.project, arguments.entity)
    linted = dashboard.lint()
    if arguments.dry_run:
        print(write_workspace(linted, arguments.out), end="")
    for problem in linted.problems:
        print(problem)
    if linted.problems:
        raise UserError(
            f"the panels use {counted(len(linted.problems), 'name')} that none of these runs logs, as listed above"
        )
    if arguments.dry_run:
        print(f"lint: {linted.names} names in {linted.panels} panels, all logged; wrote {arguments.out / WORKSPACE}")
    else:
        _write(dashboard, arguments.out)


def parser() -> VerbParser:
    """The parser of the command line."""
    whole = VerbParser("distill dashboard", description=__doc__)
    whole.add_argument(
        "runs", nargs="+", metavar="RUN", help="run folders, or ones of several seeds; others are passed over"
    )
    whole.add_argument(
        "--out", type=Path, default=PLACE, metavar="DIR", help=f"folder of the offline runs; by default {PLACE}"
    )
    whole.add_argument("--project", metavar="NAME", help="project at W&B; by default WANDB_PROJECT, else distill")
    whole.add_argument("--entity", metavar="NAME", help="user or team at W&B; by default WANDB_ENTITY, else the key's")
    whole.add_argument("--dry-run", action="store_true", help="only build the workspace, check its names and print it")
    return whole


def _write(dashboard: Dashboard, out: Path) -> None:
    console = table_console()
    if others := dashboard.passed_over:
        print(f"Passed over, since they are no run folders: {', '.join(map(str, others))}\n")
    what = f"writing {counted(len(dashboard.records), 'offline run')} into {out}"
    if not console.is_terminal:
        print(what, flush=True)
    offline = dashboard.write_offline(
        out, lambda records: track(records, escape(what), console=console, disable=not console.is_terminal)
    )
    console.print(_table(dashboard, offline))
    print(f"\nsend them: {dashboard.sync_line(offline)}")
    saved = dashboard.save()
    if saved is None:
        print(
            "no workspace and no report: there is no key for W&B, or WANDB_MODE switches it off; set WANDB_API_KEY or "
            "run `wandb login`, and repeat"
        )
    else:
        for what, address in saved.items():
            print(f"{what}: {address}")


def _table(dashboard: Dashboard, offline: list[Path]) -> Table:
    table = Table("run", "task", "student", "init", "seed", "at W&B", box=None, pad_edge=False)
    for record, folder in zip(dashboard.records, offline, strict=True):
        identity = folder.name.rpartition("-")[2]
        cells = (str(record.folder), record.task, record.student, record.init, str(record.seed), identity)
        table.add_row(*cells)
    return table
