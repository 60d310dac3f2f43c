"""Files and folders that a recipe names and that do not exist, found before anything is imported or built."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.recipe.command_line import merged
from distill.recipe.compose import Recipe
from distill.recipe.signatures import OWN
from distill.runs.moved import explain_missing, is_path, moved_paths, words_for


def require_paths(recipe: Recipe, words: Sequence[str], built: Sequence[str] = ("data", "model")) -> None:
    """Refuses to train on data, or from weights, that do not exist.

    Classes of other packages are left alone: what they call `root` may be an address. A run that goes on needs no
    initial weights, and one with stored targets no weights of the teacher.

    Args:
        recipe: The recipe.
        words: What follows it on the command line.
        built: What of the recipe is built: groups, or arguments of one, such as "model.teacher".

    Raises:
        UserError: The first file or folder that does not exist.
    """
    moved = moved_paths(recipe.path)
    tree = merged(recipe, [*words_for(moved), *words])
    if tree.get("ckpt_path"):
        tree["model"] = None
    for key in built:
        group, _, argument = key.partition(".")
        node = tree.get(group)
        if argument:
            node = ((node or {}).get("init_args") or {}).get(argument)
        for owner, name, path in _paths(node, key):
            if not Path(path).exists():
                raise explain_missing(_missing(owner, name, path), moved)


def _missing(owner: str, name: str, path: str) -> UserError:
    if name.endswith("checkpoint"):
        return UserError(f"{owner}: {name} {path!r} does not exist; check the path, or train or download it first")
    return UserError(f"{owner}.{name} {path!r} does not exist; name a file or folder that does")


def _paths(node: Any, place: str) -> Iterator[tuple[str, str, str]]:
    """The owner, name and value of every key below a node that names a file or folder."""
    if isinstance(node, list):
        for number, part in enumerate(node):
            yield from _paths(part, f"{place}[{number}]")
    if not isinstance(node, Mapping):
        return
    if "class_path" in node:
        if str(node["class_path"]).split(".")[0] in OWN:
            yield from _paths(node.get("init_args"), place)
        return
    for name, value in node.items():
        if name == "cache" or (name == "teacher" and node.get("cache")):
            continue  # a cache that is missing is explained by who reads it
        if isinstance(value, str) and is_path(str(name)):
            yield place, str(name), value
        else:
            yield from _paths(value, f"{place}.{name}")
