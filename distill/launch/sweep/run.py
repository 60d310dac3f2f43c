"""The runs of a grid in turn, each an ordinary run folder; starting again goes on where it stopped."""

import shlex
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill.errors import Stopped, UserError, first_line
from distill.files import write_json, write_text
from distill.launch.api import start_fit, start_scoring
from distill.launch.parse import ParsedRecipe
from distill.launch.sweep.plan import Plan, Run
from distill.rank import is_rank_zero, trains_with_others
from distill.recipe.axes import Axis, Cell, Range, cells
from distill.report.compare.comparison import Comparison, compare_records
from distill.report.compare.sweep_table import SweepTable, sweep_table
from distill.report.run_record import RunRecord
from distill.runs.folder import RunState

RECORD = "sweep.json"
FAILURES = "failures"  # the folder of tracebacks


@dataclass
class Sweep:
    """The state of a sweep.

    Attributes:
        folder: Its folder: a folder for each cell with one for each seed, the table as sweep.json, and the files of
            `distill compare`.
        failures: Why runs failed, by their names.
        table: Mean, interval and paired difference to the first cell; None while no run has finished.
        comparison: What `distill.compare` says of its runs; None while no run has finished.
    """

    folder: Path
    failures: dict[str, str] = field(default_factory=dict)
    table: SweepTable | None = None
    comparison: Comparison | None = None


def grid(axes: Sequence[Axis | Range]) -> list[Cell]:
    """The cells of a sweep without a search.

    Raises:
        UserError: There is no axis, or one is a range.
    """
    for axis in axes:
        if isinstance(axis, Range):
            raise UserError(
                f"--over {axis.key} is a range, which only a search samples; add --search N, or give values"
            )
    if not axes:
        raise UserError("a sweep needs --over KEY=A,B,C; for several seeds of one recipe use `distill fit --run.seeds`")
    return cells([axis for axis in axes if isinstance(axis, Axis)])


def run_grid(plan: Plan, axes: Sequence[Axis | Range], only: int | None = None) -> Sweep:
    """Runs every cell with every seed, and makes the table.

    Args:
        plan: What the runs have in common.
        axes: What they differ in.
        only: The number of the one run to do, without a table, as a task of a job array does.

    Raises:
        UserError: See `sweep`.
        Stopped: See `sweep`.
    """
    every = grid(axes)
    runs = plan.runs(every)
    if only is not None:
        if not 0 <= only < len(runs):
            raise UserError(f"--task is {only}; the sweep has the runs 0 to {len(runs) - 1}")
        plan.require_possible(runs[only : only + 1])
        return Sweep(plan.folder, do(plan, runs[only : only + 1]))
    plan.require_possible(runs)
    return tabled(plan, every, do(plan, runs))


def do(plan: Plan, runs: Sequence[Run]) -> dict[str, str]:
    """Fits and scores runs in turn, and skips finished ones.

    Of several processes that train together, one cannot go on with the next run while others wait for it in this one:
    the first failure ends the sweep, and whoever started the processes ends the others at the exit code of this one.

    Returns:
        Why runs failed, by their names.

    Raises:
        UserError: A run failed, and several processes train together.
        Stopped: The user, or a job queue, stopped it.
    """
    failures = {}
    for number, run in enumerate(runs, 1):
        if is_rank_zero():
            print(f"Run {number} of {len(runs)}: {run.name}")
        try:
            _do_one(plan, run)
        except Stopped:
            raise
        except UserError as error:
            failures[run.name] = " ".join(str(error).split())
        except Exception as error:  # whatever it is, the other runs are worth doing
            path = plan.folder / FAILURES / f"{run.name.replace('/', ',')}.txt"
            write_text(path, traceback.format_exc())
            failures[run.name] = f"{type(error).__name__}: {first_line(error)}; see {path}"
        if run.name in failures and trains_with_others():
            raise UserError(
                f"{run.name} failed: {failures[run.name]}; with several processes that ends the sweep. Finished runs "
                "are kept, and the same command goes on with this one: mend it, or take its value out of --over"
            )
    return failures


def tabled(plan: Plan, every: Sequence[Cell], failures: dict[str, str]) -> Sweep:
    """The table of the finished runs, stored in the folder of the sweep.

    Raises:
        UserError: The folder cannot be written.
    """
    records: dict[str, list[RunRecord]] = {}
    for run in plan.runs(every):
        if run.folder.state is RunState.FINISHED:
            records.setdefault(run.cell.name, []).append(RunRecord.read(run.folder))
    found = Sweep(plan.folder, failures)
    if records:
        found.table = sweep_table({cell.name: records[cell.name] for cell in every if cell.name in records})
        command = shlex.join(["distill", "compare", *(str(plan.folder / name) for name in records)])
        found.comparison = compare_records([one for each in records.values() for one in each], command)
        found.comparison.write(plan.folder)
    values = {cell.name: dict(cell.values) for cell in every}
    rows = found.table.rows if found.table else []
    content = {"cells": values, "seeds": list(plan.seeds), "rows": rows, "failures": failures}
    write_json(plan.folder / RECORD, content)
    return found


def _do_one(plan: Plan, run: Run) -> None:
    folder = run.folder
    if folder.state is not RunState.FINISHED:
        start_fit(plan.parsed(run, *["--ckpt_path=last"] * (folder.state is RunState.INTERRUPTED)))
    stage = RunRecord.read(folder).stage
    if stage == "test" and not folder.scores(stage).is_file():  # the last validation of a fit scores a distillation
        start_scoring(ParsedRecipe.read(stage, [str(folder)]))
