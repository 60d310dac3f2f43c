"""`distill pull FROM DIR`: a shared model, from the Hugging Face Hub or a folder, into a folder of its own."""

from distill.cli.parser import VerbParser

_MORE = """
FROM is hf://owner/name, hf://owner/name@revision, or a folder that `distill push` wrote. No stored code is run, and a
recipe that names other classes than those of this project is refused.
"""


def run(words: list[str]) -> None:
    """Runs `distill pull FROM DIR`.

    Raises:
        UserError: See `distill.pull`.
    """
    given = parser().parse_args(words[1:])

    from distill.launch.share import pull

    done = pull(given.source, given.folder)
    print(f"{done.place}: {', '.join(done.files)}")


def parser() -> VerbParser:
    """The parser of the command line."""
    whole = VerbParser("distill pull", description=__doc__, epilog=_MORE)
    whole.add_argument("source", metavar="FROM", help="hf://owner/name, hf://owner/name@revision, or a folder")
    whole.add_argument("folder", metavar="DIR", help="a new folder, or that of a shared model, which is replaced")
    return whole
