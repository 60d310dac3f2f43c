"""`distill compare RUN ...`: runs in one table and on one page: quality, gain over the scratch baseline, costs."""

import shlex
from pathlib import Path

from distill.cli.console import table_console
from distill.cli.parser import VerbParser
from distill.launch.compare import compare
from distill.phases import line_console
from distill.report.compare.comparison import FILES, Comparison
from distill.report.compare.tables import notes, reasons, rich_tables, timing
from distill.runs.folder import STAGES

_MORE = """\
A row is a student with its initial weights on a task; its seeds are folded (mean ± sample standard deviation). The gain
is the difference to the scratch baseline, the same student from random weights, paired by seed, with the 95 % interval
of its mean. Every task and set of images has a table of its own. Runs that were scored differently are not folded, and
times from different machines are red; --measure times all models on this one.

On the terminal, the best of a column is bold. Dim rows are teachers, and students that another one equals or beats in
quality and every cost. Values marked (!) are red: they cannot be compared with the others of their column.
"""


def run(words: list[str]) -> None:
    """Runs `distill compare RUN ... [--out DIR] [--measure] [--stage test|validate]`.

    Raises:
        UserError: No run folder is given, or DIR cannot be written.
    """
    arguments = parser().parse_args(words[1:])
    comparison = compare(
        arguments.runs,
        out=arguments.out,
        measure=arguments.measure,
        stage=arguments.stage,
        command=shlex.join(["distill", *words]),
    )
    print_comparison(comparison, arguments.out)


def parser() -> VerbParser:
    """The parser of the command line."""
    whole = VerbParser("distill compare", description=__doc__, epilog=_MORE)
    whole.add_argument(
        "runs", nargs="+", metavar="RUN", help="run folders, or ones of several seeds; others are passed over"
    )
    whole.add_argument("--out", type=Path, metavar="DIR", help="write compare.html, .json, .csv and .md into DIR")
    whole.add_argument("--measure", action="store_true", help="time all models anew, in turns on this machine")
    whole.add_argument(
        "--stage", choices=STAGES[::-1], help="which scores; by default those of the test, of distillations validate"
    )
    return whole


def print_comparison(comparison: Comparison, out: Path | None) -> None:
    """Prints the tables, their notes, and the files that were written.

    Args:
        comparison: What to print.
        out: The folder that it was written into, if any.
    """
    console, lines = table_console(), line_console()
    content = comparison.as_json()
    if others := content["passed_over"]:
        lines.print(f"Passed over, since they are no run folders: {', '.join(others)}\n")
    for section in content["sections"]:
        for table in rich_tables(section):
            console.print(table)
            console.print()
        lines.print(section["sentence"])
        for note in notes(section):
            lines.print(note["text"], style="red" if note["level"] == "red" else "")
        for reason in reasons(section):
            lines.print(f"missing: {reason}")
        console.print()
    lines.print(timing(content))
    if out is not None:
        lines.print(f"Wrote {out}/: {', '.join(FILES)}")
