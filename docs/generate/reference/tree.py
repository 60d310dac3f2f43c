"""Keys of components and recipes as rows of tables, read from the sources of the classes."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from distill.recipe.check import RUN, TRAINER, TRAINER_DEFAULTS
from distill.recipe.signatures import Parameter, Type, parameters, purpose

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


def component_rows(key: str, class_path: str, given: Mapping[str, Any], supplied: int = 0) -> Iterator[Row]:
    """The keys of a class, those of settings and of given components below it included.

    Args:
        key: What its keys begin with; empty for none.
        class_path: The class.
        given: Its `init_args`.
        supplied: How many of its first arguments its owner passes.
    """
    known = parameters(class_path) or {}
    yield from group_rows(key, given, dict(list(known.items())[supplied:]))


def group_rows(key: str, given: Mapping[str, Any], known: Mapping[str, Parameter]) -> Iterator[Row]:
    """The keys of a mapping."""
    for name, parameter in known.items():
        dotted, value = f"{key}.{name}".lstrip("."), given.get(name)
        settings = next((kind.settings for kind in parameter.types if kind.kind == "settings"), None)
        component = next((kind for kind in parameter.types if kind.kind == "component"), None)
        if settings is not None:
            yield from group_rows(dotted, value if isinstance(value, dict) else {}, parameters(settings) or {})
        elif component is not None and isinstance(value, dict) and "class_path" in value:
            path = str(value["class_path"])
            yield Row(dotted, "class", path, True, purpose(path))
            yield from component_rows(dotted, path, value.get("init_args") or {}, component.supplied)
        else:
            shown = as_text(value) if name in given else _default(parameter.default)
            yield Row(dotted, _types(parameter.types), shown, name in given, parameter.description)


def trainer_rows(given: Mapping[str, Any]) -> Iterator[Row]:
    """The keys of Lightning's trainer that a recipe sets, and those whose default `distill` changes."""
    known = parameters(TRAINER) or {}
    for name in dict.fromkeys((*given, *TRAINER_DEFAULTS)):
        value = given.get(name, TRAINER_DEFAULTS.get(name))
        yield Row(f"trainer.{name}", _types(known[name].types), as_text(value), name in given, known[name].description)


def run_rows(given: Mapping[str, Any]) -> Iterator[Row]:
    """The keys of the group `run`."""
    return group_rows("run", given, parameters(RUN) or {})


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


def as_text(value: Any) -> str:
    """A value as one writes it in a recipe."""
    text = str(yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False, allow_unicode=True))
    return text.removesuffix("\n...\n").strip()


def _default(source: str | None) -> str:
    if source is None:
        return "(needed)"
    try:
        value = ast.literal_eval(source)
    except ValueError:  # made by a call
        return source
    return as_text(list(value) if isinstance(value, tuple) else value)


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
