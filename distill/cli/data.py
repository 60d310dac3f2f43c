"""`distill data`: prepare a data set of another layout, cut it into tiles, verify any, preview it."""

from distill.cli import data_prepare, data_preview, data_tile, data_verify
from distill.cli.parser import VerbParser


def run(words: list[str]) -> None:
    """Runs `distill data prepare | tile | verify | preview`."""
    arguments = parser().parse_args(words[1:])
    arguments.call(arguments)


def parser() -> VerbParser:
    """The parser of all actions; `call` of its result runs the action."""
    whole = VerbParser("distill data", description=__doc__)
    actions = whole.add_subparsers(dest="action", required=True)
    for action in (data_prepare, data_tile, data_verify, data_preview):
        action.add_parser(actions).set_defaults(call=action.run)
    return whole
