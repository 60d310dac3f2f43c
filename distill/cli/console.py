"""The console that verbs print their tables on."""

from rich.console import Console

_UNCUT = 10_000  # columns


def table_console() -> Console:
    """A console that fits tables to a terminal; in a pipe or a file each row is one whole line.

    Text is printed as it is, as by `distill.phases.line_console`.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _UNCUT
    return console
