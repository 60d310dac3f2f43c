"""`distill sweep RECIPE --over KEY=A,B,C --seeds 0,1,2`: a run for every combination and seed, then one table."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill.cli.console import table_console
from distill.cli.parser import VerbParser
from distill.errors import UserError
from distill.phases import line_console
from distill.rank import is_rank_zero
from distill.recipe.axes import Axis, Range, read_axis

if TYPE_CHECKING:
    from distill.launch.sweep.run import Sweep

_USAGE = "distill sweep RECIPE ... --over KEY=A,B [options] [--key value]"
_MORE = """\
Runs lie in DIR/CELL/seedK and are ordinary run folders. The same command goes on after an interruption: finished runs
are kept, interrupted ones resumed, failed ones tried again. DIR gets sweep.json, the table with means, 95 % intervals
and differences to the first cell paired by seed, and the files of `distill compare`.

Commas inside brackets part no values: --over 'model.corruption={noise: 0.1, mask: 0},{noise: 0.2, mask: 0.2}'.
--over recipe=data/nwpu,data/whu puts recipes over the given ones. Other options, such as --trainer.max_steps 300, are
for every run.

Exit code: 0, 1 if runs failed, 2 for bad input, 130 after Ctrl-C, 75 after SIGTERM: the same command goes on.
"""


def run(words: list[str]) -> int:
    """Runs `distill sweep`.

    Returns:
        1 if a run failed, else 0.

    Raises:
        UserError: See `distill.sweep`.
    """
    rest = words[1:]
    count = next((place for place, word in enumerate(rest) if word.startswith("-")), len(rest))
    recipes = rest[:count]
    arguments, overrides = parser().parse_known_args(rest[count:])
    axes = _axes(arguments.over)
    if not recipes and not any(axis.key == "recipe" for axis in axes):
        raise UserError("`distill sweep` needs a recipe; `distill recipes list` lists those that come with the package")
    sweep = _sweep(arguments, recipes, overrides, axes, words)
    if sweep is None:
        return 0
    if is_rank_zero():
        _print(sweep)
    return 1 if sweep.failures else 0


def _sweep(
    arguments: argparse.Namespace, recipes: list[str], overrides: list[str], axes: list[Axis | Range], words: list[str]
) -> "Sweep | None":
    """What was asked for; None if that is only the script of a job array."""
    from distill.launch.sweep.api import sweep_folder
    from distill.launch.sweep.plan import Plan
    from distill.launch.sweep.run import grid, run_grid, tabled

    folder = sweep_folder(recipes, arguments.out)
    plan = Plan(tuple(recipes), tuple(overrides), _seeds(arguments.seeds), folder)
    if arguments.search is not None:
        if arguments.slurm or arguments.table or arguments.task is not None:
            raise UserError("--search samples one cell after the other; leave out --slurm, --task and --table")
        from distill.launch.sweep.search import run_search

        return run_search(plan, axes, arguments.search, arguments.metric)
    if arguments.metric is not None:
        raise UserError(f"--metric {arguments.metric} is what a search improves; add --search N, or leave it out")
    if arguments.table:
        found = tabled(plan, grid(axes), {})
        if found.table is None:
            raise UserError(f"no run in {folder} has finished; leave out --table to start them")
        return found
    if arguments.slurm:
        from distill.launch.sweep.slurm import write_script

        runs = plan.runs(grid(axes))
        plan.require_possible(runs, files=False)
        plain = [word for word in words if word != "--slurm"]
        submit = write_script(folder, plain, len(runs))
        print(f"{len(runs)} runs. Submit them with what your cluster asks for, then make the table:")
        print(f"  {submit}\n  {shlex.join(['distill', *plain, '--table'])}")
        return None
    return run_grid(plan, axes, arguments.task)


def _print(sweep: "Sweep") -> None:
    from distill.report.compare.comparison import FILES
    from distill.report.compare.sweep_table import NOTE

    console = line_console()
    if sweep.table is not None:
        table_console().print(sweep.table.as_table())
        console.print(NOTE)
    if sweep.comparison is not None:
        notes = [note for section in sweep.comparison.sections for note in section["notes"]]
        for text in dict.fromkeys(note["text"] for note in notes if note["level"] == "red"):
            console.print(text, style="red")
        print(f"Wrote {sweep.folder}/: sweep.json, {', '.join(FILES)}")
    for name, why in sweep.failures.items():
        print(f"distill: {name} failed: {why}", file=sys.stderr)


def _axes(given: Sequence[str]) -> list[Axis | Range]:
    for word in given:
        if "=" not in word:
            raise UserError(f"--over {word} names no values; give KEY=A,B,C")
    return [read_axis(key, values) for key, _, values in (word.partition("=") for word in given)]


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise UserError(f"--seeds is {text!r}; give whole numbers with commas between, such as 0,1,2") from None


def parser() -> VerbParser:
    """The parser of the command line, of what is no key of a recipe."""
    whole = VerbParser(
        "distill sweep",
        usage=_USAGE,
        description=__doc__,
        epilog=_MORE,
        allow_abbrev=False,  # a key of the recipe must not pass as the abbreviation of an option
    )
    whole.add_argument("--over", action="append", default=[], metavar="KEY=A,B,C", help="a key and its values")
    whole.add_argument("--seeds", default="0", metavar="0,1,2", help="seeds of each combination; by default 0")
    whole.add_argument("--out", type=Path, metavar="DIR", help="by default runs/sweep_ and the recipe's name")
    whole.add_argument("--slurm", action="store_true", help="write the script of a job array, a task for each run")
    whole.add_argument("--task", type=int, metavar="I", help="do run I alone, as a task of a job array")
    whole.add_argument("--table", action="store_true", help="only make the table, of the runs that have finished")
    whole.add_argument(
        "--search", type=int, metavar="N", help="sample N combinations with Optuna; KEY=0.1..0.5, KEY=log:1e-4..1e-2"
    )
    whole.add_argument("--metric", metavar="NAME", help="what a search improves, such as val/l1_ratio")
    return whole
