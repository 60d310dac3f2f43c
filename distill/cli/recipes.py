"""`distill recipes`: list, show or copy the recipes that come with the package, alone or composed."""

import shlex
from collections.abc import Mapping, Sequence
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

# What `distill recipes` shows, in the order of use; `distill recipes list` has them all.
MAIN = (
    *("rs4d_small", "dinov2_to_rs4d", "dinov2_to_lale", "cnn_to_lale", "sam_to_efficientvit_sam"),
    *("pretrain/masked_autoencoder", "finetune/mask_rcnn", "finetune/prompt", "landcover/lale_s1"),
    *("data/prepared", "data/nwpu", "head/light", "size/cpu", "size/cpu_rs4d"),
)


def run(words: list[str]) -> None:
    """Runs `distill recipes [list [BEGINNING] | show NAME ... | copy NAME ... [TO]]`."""
    arguments, overrides = parser().parse_known_args(words[1:])
    if arguments.action == "show":
        print(_text(arguments.name, overrides)[1], end="")
    elif arguments.action == "copy":
        _copy(arguments.name, overrides)
    elif overrides:
        raise UserError(f"`distill recipes` takes no {overrides[0]}; overrides follow `distill recipes show NAME`")
    elif arguments.action == "list":
        _list(arguments.beginning)
    else:
        _main()


def parser() -> VerbParser:
    """The parser of the command line, of what is no key of a recipe."""
    whole = VerbParser("distill recipes", description=__doc__, allow_abbrev=False)
    actions = whole.add_subparsers(dest="action")
    every = actions.add_parser("list", help="all names, purposes and combinations, or those of one kind")
    every.add_argument("beginning", nargs="?", default="", help="how their names begin, such as landcover")
    show = actions.add_parser("show", help="print a recipe, or what several and overrides --key value make")
    show.add_argument("name", nargs="+")
    copy = actions.add_parser("copy", help="write a recipe here as one file, to change it")
    copy.add_argument("name", nargs="+", help="recipes, then the file or folder to write to, if it is another")
    return whole


def _text(names: Sequence[str], overrides: Sequence[str]) -> tuple[str, str]:
    """Name and text of one file that says what recipes and overrides make; a single recipe keeps its comments."""
    recipe, words = split([*names, *overrides])
    if recipe is None:
        raise UserError("name a recipe first; `distill recipes list` lists those that come with the package")
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


def _main() -> None:
    console = Console(highlight=False)
    recipes = shipped()
    console.print(_table("recipe", "what it does", {name: summary(recipes[name]) for name in MAIN}))
    console.print(
        f"\nThese are {len(MAIN)} of {len(recipes)} recipes. All, and the combinations that have a name:\n"
        "  distill recipes list\n"
        "  distill recipes list landcover      # those whose names begin so\n"
        "Several recipes make one run:\n"
        "  distill fit finetune/mask_rcnn data/nwpu size/cpu",
        markup=False,
    )


def _list(beginning: str) -> None:
    kinds = {
        ("recipe", "what it does"): {name: summary(path) for name, path in shipped().items()},
        ("combination", "what it is short for"): {name: command(name) for name in COMBINATIONS},
    }
    tables = [
        _table(*heads, rows)
        for heads, content in kinds.items()
        if (rows := {name: text for name, text in content.items() if name.startswith(beginning)})
    ]
    if not tables:
        raise UserError(f"no recipe has a name that begins with {beginning!r}; `distill recipes list` has all names")
    console = Console(highlight=False)
    for number, table in enumerate(tables):
        if number:
            console.print()
        console.print(table)


def _table(first: str, second: str, rows: Mapping[str, str]) -> Table:
    """Names in one piece, and what is said of each, also a long word whole."""
    table = Table(Column(first, no_wrap=True), Column(second, overflow="fold"), box=None, pad_edge=False)
    for name, text in rows.items():
        table.add_row(name, text)
    return table
