"""`distill demo`: a teacher, its distilled student and the same student from scratch on synthetic scenes, compared."""

import os
import time
from pathlib import Path

from distill.cli.compare import print_comparison
from distill.cli.parser import VerbParser
from distill.data.checks import valid_seed
from distill.phases import line_console

_MORE = """
A demo that was stopped goes on with the same command: scenes of the same seed, and trainings of the same recipe with
the same versions of all packages, are kept.
"""


def run(words: list[str]) -> None:
    """Runs `distill demo [--dir FOLDER] [--seed N] [--fresh]`.

    Raises:
        UserError: The seed is none, or a training failed.
        Stopped: The user stopped it; the message says how to go on.
    """
    arguments = parser().parse_args(words[1:])
    valid_seed("--seed", arguments.seed)

    from distill.launch.demo import doubt, next_commands, page, run_demo

    start = time.perf_counter()
    comparison = run_demo(arguments.dir, arguments.seed, arguments.fresh)
    shown = page(arguments.dir)
    print_comparison(comparison, shown.parent)
    lines = line_console()
    spent = sum(os.times()[:4])  # of this process and of those it waited for
    lines.print(
        f"Took {time.perf_counter() - start:.0f} s, {spent:.0f} s of processors. Open in a browser:\n  {shown}",
    )
    if (said := doubt(comparison)) is not None:
        lines.print(f"{said}.")
    for title, command in next_commands(arguments.dir):
        lines.print(f"{title}:\n  {command}")


def parser() -> VerbParser:
    """The parser of the command line."""
    whole = VerbParser("distill demo", description=__doc__, epilog=_MORE)
    whole.add_argument(
        "--dir", type=Path, default=Path("runs/demo"), help="where everything is written; default runs/demo"
    )
    whole.add_argument("--seed", type=int, default=0, help="seed of scenes, weights and order; default 0")
    whole.add_argument(
        "--fresh", action="store_true", help="train again what an earlier demo in the folder has finished or begun"
    )
    return whole
