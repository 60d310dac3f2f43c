"""`distill seeds RUN RUN ...`: mean and spread of every score over runs that differ in their seed."""

import json

from distill.cli.parser import VerbParser
from distill.phases import line_console
from distill.report.compare.seed_table import seed_table
from distill.report.run_record import RunRecord
from distill.runs.folder import STAGES
from distill.runs.listing import run_folders


def run(words: list[str]) -> None:
    """Runs `distill seeds RUN RUN ... [--stage test|validate] [--json]`.

    Raises:
        UserError: See `distill.report.compare.seed_table`.
    """
    arguments = parser().parse_args(words[1:])
    folders, _ = run_folders(arguments.runs)
    found = seed_table([RunRecord.read(folder) for folder in folders], arguments.stage)
    if arguments.json:
        print(json.dumps(found.rows))
    else:
        for part in found.shown():
            line_console().print(part)


def parser() -> VerbParser:
    """The parser of the command line."""
    whole = VerbParser("distill seeds", description=__doc__)
    whole.add_argument("runs", nargs="+", help="scored run folders, or one of a recipe with run.seeds")
    whole.add_argument("--stage", choices=STAGES[::-1], help="which scores; by default as in `distill compare`")
    whole.add_argument("--json", action="store_true", help="print JSON")
    return whole
