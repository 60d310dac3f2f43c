"""`distill recipes`: list, show or copy the recipes that come with the package."""

import argparse
import shutil
from functools import partial
from pathlib import Path

from rich.table import Table

from distill.cli.console import table_console
from distill.errors import UserError
from distill.files import write_atomically
from distill.recipe.find import find, shipped, summary


def run(words: list[str]) -> None:
    """Runs `distill recipes [list | show NAME | copy NAME [TO]]`."""
    parser = argparse.ArgumentParser("distill recipes", description=__doc__)
    actions = parser.add_subparsers(dest="action")
    actions.add_parser("list", help="names and purposes")
    show = actions.add_parser("show", help="print a recipe")
    show.add_argument("name")
    copy = actions.add_parser("copy", help="copy a recipe here, to change it")
    copy.add_argument("name")
    copy.add_argument("to", nargs="?", type=Path)
    arguments = parser.parse_args(words[1:])
    if arguments.action == "show":
        print(find(arguments.name).read_text(encoding="utf-8"), end="")
    elif arguments.action == "copy":
        source = find(arguments.name)
        target = arguments.to or Path(source.name)
        if target.is_dir():
            target = target / source.name
        if target.exists():
            raise UserError(f"{target} exists; name another target: distill recipes copy {arguments.name} TO")
        write_atomically(target, partial(shutil.copyfile, source))
        print(f"copied to {target}; run it with: distill fit {target}")
    else:
        table = Table("recipe", "what it does", box=None, pad_edge=False)
        for name, path in shipped().items():
            table.add_row(name, summary(path))
        table_console().print(table)
