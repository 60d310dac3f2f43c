"""`distill recipes`: list, show or copy the recipes that come with the package, alone or composed."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from distill.cli.parser import VerbParser
from distill.errors import UserError
from distill.files import write_text
from distill.recipe.combinations import COMBINATIONS, command
from distill.recipe.command_line import merged, split
from distill.recipe.compose import as_yaml
from distill.recipe.find import comes_with_the_package, shipped, summary


def run(words: list[str]) -> None:
    """Runs `distill recipes [list | show NAME ... | copy NAME ... [TO]]`."""
    arguments, overrides = parser().parse_known_args(words[1:])
    if arguments.action == "show":
        print(_text(arguments.name, overrides)[1], end="")
    elif arguments.action == "copy":
        _copy(arguments.name, overrides)
    else:
        if overrides:
            raise UserError(f"`distill recipes` takes no {overrides[0]}; overrides follow `distill recipes show NAME`")
        _list()


def parser() -> VerbParser:
    """The parser of the command line, of what is no key of a recipe."""
    whole = VerbParser("distill recipes", description=__doc__, allow_abbrev=False)
    actions = whole.add_subparsers(dest="action")
    actions.add_parser("list", help="names, purposes and combinations")
    show = actions.add_parser("show", help="print a recipe, or what several and overrides --key value make")
    show.add_argument("name", nargs="+")
    copy = actions.add_parser("copy", help="write a recipe here as one file, to change it")
    copy.add_argument("name", nargs="+", help="recipes, then the file or folder to write to, if it is another")
    return whole


def _text(names: Sequence[str], overrides: Sequence[str]) -> tuple[str, str]:
    """Name and text of one file that says what recipes and overrides make; a single recipe keeps its comments."""
    recipe, words = split([*names, *overrides])
    if recipe is None:
        raise UserError("name a recipe first; `distill recipes` lists those that come with the package")
    if recipe.file is not None and not words:
        return recipe.file.name, recipe.file.read_text(encoding="utf-8")
    opening = f"# {shlex.join(['distill', 'fit', *names, *overrides])}\n"
    opening += "".join(f"# {note}\n" for note in recipe.notes)
    return recipe.path.name, opening + as_yaml(merged(recipe, words))


def _copy(names: Sequence[str], overrides: Sequence[str]) -> None:
    sources = list(names)
    target = Path(sources.pop()) if len(sources) > 1 and not comes_with_the_package(sources[-1]) else Path()
    name, text = _text(sources, overrides)
    if target.is_dir():
        target = target / name
    if target.exists():
        raise UserError(f"{target} exists; name another target: distill recipes copy {shlex.join(sources)} TO")
    write_text(target, text)
    print(f"copied to {target}; run it with: distill fit {target}")


def _list() -> None:
    console = Console(highlight=False)
    table = Table(Column("recipe", no_wrap=True), "what it does", box=None, pad_edge=False)
    for name, path in shipped().items():
        table.add_row(name, summary(path))
    console.print(table)
    table = Table(Column("combination", no_wrap=True), "what it is short for", box=None, pad_edge=False)
    for name in COMBINATIONS:
        table.add_row(name, command(name))
    console.print()
    console.print(table)
