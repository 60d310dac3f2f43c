"""The arguments of `distill fit`: recipes, then pairs of key and value."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.recipe.compose import Recipe, compose, make_way, merge, nested, on_one_line, read_raw, read_value, undotted
from distill.recipe.overrides import expand, is_class
from distill.recipe.renamed import current

# Options of the parser, which are no keys of a recipe.
_OPTIONS = ("config", "print_config", "help", "h")


def split(words: Sequence[str]) -> tuple[Recipe | None, list[str]]:
    """The recipe that the arguments of a verb name, first or as `--config`, and the other words, ready to be parsed.

    Raises:
        UserError: There is no such recipe, or a word is in no pair of key and value.
    """
    count = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    given, rest = list(words[:count]), list(words[count:])
    for place, word in enumerate(rest if not given else ()):
        key, _, value = word.partition("=")
        if key == "--config" and (value or place + 1 < len(rest)):
            given = [value or rest[place + 1]]
            del rest[place : place + (1 if value else 2)]
            break
    return overridden(given, rest) if given else (None, rest)


def overridden(given: Sequence[str | Mapping[str, Any]], words: Sequence[str]) -> tuple[Recipe, list[str]]:
    """Recipes as one, and the words that override it, ready to be parsed.

    Args:
        given: See `distill.recipe.compose.compose`.
        words: Pairs of key and value.

    Raises:
        UserError: See `split`.
    """
    expanded = expand(words)
    recipe = _with_classes(compose(given), expanded)
    notes: list[str] = []
    rest = list(_in_current_names(recipe, expanded, notes))
    return replace(recipe, notes=(*recipe.notes, *notes)), rest


def merged(recipe: Recipe, words: Sequence[str]) -> dict[str, Any]:
    """The recipe with the overrides in place, as far as they can be read without the parser.

    Raises:
        UserError: A word on the command line is in no pair of key and value.
    """
    tree = copy.deepcopy(recipe.content)
    for _, key, value in _pairs(words):
        if key:
            override = (_config(value) or {}) if key == "config" else nested(key, read_value(value))
            make_way(tree, override, () if key == "config" else key.split("."))
            merge(tree, override, [])
    return tree


def without(words: Sequence[str], *groups: str) -> list[str]:
    """The overrides without those of some keys.

    Args:
        words: Pairs of key and value.
        groups: Dotted keys, which stand for all keys below them too.
    """
    kept: list[str] = []
    for written, key, _ in _pairs(words):
        if not f"{key}.".startswith(tuple(f"{group}." for group in groups)):
            kept += written
    return kept


def _with_classes(recipe: Recipe, words: Sequence[str]) -> Recipe:
    """The recipe, in which arguments of a class that the command line alone names stand beside that class.

    The parser refuses arguments without a class, such as those of `data` in `size/cpu`.
    """
    content = copy.deepcopy(recipe.content)
    for _, key, value in _pairs(words):
        group = content.get(key)
        if key in ("model", "data") and isinstance(group, dict) and group.keys() == {"init_args"} and is_class(value):
            content[key] = {"class_path": value, **group}
    if content == recipe.content:
        return recipe
    return replace(recipe, content=content, words=(f"--config={on_one_line(content)}",))


def _in_current_names(recipe: Recipe, words: Sequence[str], notes: list[str]) -> Iterator[str]:
    """The words, of which those that use old names of keys are written anew."""
    tree = copy.deepcopy(recipe.content)
    for written, key, value in _pairs(words):
        if not key:
            yield from written
            continue
        old = _config(value) if key == "config" else nested(key, read_value(value))
        before = len(notes)
        new = current(old, tree, notes) if old is not None else {}
        merge(tree, new, [])
        if len(notes) == before:
            yield from written
        else:
            yield f"--config={on_one_line(new)}"


def _pairs(words: Sequence[str]) -> Iterator[tuple[list[str], str, str]]:
    """The words of every pair, its key and its value; no key where they are no override."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") and word != "-h":
            raise UserError(f"{word!r} follows no --key; recipes come first, then pairs --key value")
        written = [word]
        key, equals, value = word.lstrip("-").partition("=")
        name = key.rpartition(".")[2]
        if not equals and rest and not rest[0].startswith("--") and name not in ("print_config", "h"):
            value, equals = rest.pop(0), "="
            written.append(value)
        if (key == "config" and equals) or (equals and name not in _OPTIONS and not key.endswith("+")):
            yield written, key, value
        elif name in _OPTIONS or key.endswith("+"):
            yield written, "", ""
        else:
            raise UserError(f"--{key} has no value; give one after it")


def _config(value: str) -> dict[str, Any] | None:
    """What `--config VALUE` holds: a file, or a piece of YAML."""
    if len(value) < 256 and Path(value).is_file():
        return read_raw(Path(value))
    content = read_value(value)
    return undotted(content) if isinstance(content, dict) else None
