"""Keys of components and recipes as rows of tables, read from the sources of the classes."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from distill.recipe.check import TRAINER_DEFAULTS
from distill.recipe.keys import Key, as_text, component_keys, run_keys, trainer_keys
from distill.recipe.signatures import Type, purpose

_WORDS = {
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "str": "text",
    "dict": "mapping",
    "component": "class",
    "settings": "mapping",
    "None": "null",
    "any": "any",
}


class Row(NamedTuple):
    """A key that somebody may set."""

    key: str
    types: str
    value: str
    given: bool
    description: str


def component_rows(key: str, class_path: str, given: Mapping[str, Any]) -> Iterator[Row]:
    """The keys of a class, those of settings and of given components below it included.

    Args:
        key: What its keys begin with; empty for none.
        class_path: The class.
        given: Its `init_args`.
    """
    return map(_row, component_keys(key, class_path, given))


def trainer_rows(given: Mapping[str, Any]) -> Iterator[Row]:
    """The keys of Lightning's trainer that a recipe sets, and those whose default `distill` changes."""
    for key in trainer_keys(given):
        if key.given or key.name.removeprefix("trainer.") in TRAINER_DEFAULTS:
            yield _row(key)


def run_rows(given: Mapping[str, Any]) -> Iterator[Row]:
    """The keys of the group `run`."""
    return map(_row, run_keys(given))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def code(text: str) -> str:
    """Text in the font of code, in a cell of a table."""
    return f"`{text}`".replace("|", r"\|") if text else ""


def prose(text: str) -> str:
    """A description in a cell of a table."""
    return text.replace("``", "`").replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*")


def first_sentence(text: str) -> str:
    """What stands before the first full stop that ends a sentence."""
    return re.split(r"(?<=[^.])\. ", text)[0]


def _row(key: Key) -> Row:
    component = key.given and key.value is not None and any(kind.kind == "component" for kind in key.types)
    types = "class" if component and purpose(str(key.value)) else _types(key.types)
    return Row(key.name, types, "(needed)" if key.value is None else key.value, key.given, key.description)


def _types(types: Iterable[Type]) -> str:
    return ", ".join(dict.fromkeys(_type(kind) for kind in types))


def _type(kind: Type) -> str:
    if kind.kind == "literal":
        return ", ".join(as_text(word) for word in kind.words)
    if kind.kind == "list":
        return f"list of {' or '.join(_type(one) for one in kind.items[0])}" if kind.items else "list"
    if kind.kind == "tuple":
        return f"list of {len(kind.items)}"
    return _WORDS[kind.kind]
