"""`python -m distill.cli.several COMMANDS`: commands of `distill` in one process, one after the other.

Each command that starts a process of its own spends seconds on imports.
"""

import json
import shlex
import sys
from collections.abc import Sequence

from distill.cli import main
from distill.phases import line_console


def run(commands: Sequence[tuple[str, Sequence[str]]]) -> int:
    """Runs commands until one fails, which is named on standard error.

    Args:
        commands: The title of each, printed before it, and its words, without `distill`.

    Returns:
        The exit code of the last one that ran.
    """
    for title, words in commands:
        line_console().print(f"\n{title}", style="bold")
        if code := main(list(words)):
            print(f"distill: `{shlex.join(['distill', *words[:2]])}` ended with exit code {code}", file=sys.stderr)
            return code
    return 0


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1])))
