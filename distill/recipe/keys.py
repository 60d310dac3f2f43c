"""The keys that a recipe may set, with its values: those of the classes that it names, read from their sources."""

import ast
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from distill.files import dump_yaml
from distill.recipe.check import RUN, TRAINER, TRAINER_DEFAULTS
from distill.recipe.signatures import Parameter, Type, parameters, purpose

GROUPS = ("model", "data", "trainer", "run")  # of which `recipe_keys` knows the keys


class Key(NamedTuple):
    """A key that somebody may set.

    Attributes:
        name: With dots and without `init_args`, as one types it.
        types: What its value may be.
        value: As one types it: that of the recipe, or else the default; None where one must be given.
        given: Whether the recipe sets it.
        description: From the docstring.
    """

    name: str
    types: tuple[Type, ...]
    value: str | None
    given: bool
    description: str


def recipe_keys(tree: Mapping[str, Any], group: str) -> Iterator[Key]:
    """The keys that a recipe may set in a group, those of the classes that it names included.

    Args:
        tree: The recipe; classes that cannot be read have no keys.
        group: model, data, trainer or run.
    """
    content = component(tree, group) if group in ("model", "data") else _mapping(tree.get(group))
    if group == "trainer":
        yield from trainer_keys(content)
    elif group == "run":
        yield from run_keys(content)
    elif "class_path" in content:
        yield from component_keys(group, str(content["class_path"]), _mapping(content.get("init_args")))


def component(tree: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    """The class and arguments of a group of a recipe, which may name the class alone; empty without a class."""
    content = tree.get(group)
    if isinstance(content, str):
        return {"class_path": content}
    return content if isinstance(content, Mapping) and "class_path" in content else {}


def component_keys(prefix: str, class_path: str, given: Mapping[str, Any], supplied: int = 0) -> Iterator[Key]:
    """The keys of a class, those of settings and of given components below it included.

    Args:
        prefix: What their names begin with; empty for none.
        class_path: The class.
        given: Its `init_args`.
        supplied: How many of its first arguments its owner passes.
    """
    known = parameters(class_path) or {}
    yield from _keys(prefix, given, dict(list(known.items())[supplied:]))


def trainer_keys(given: Mapping[str, Any]) -> Iterator[Key]:
    """The keys of Lightning's trainer, with the defaults of `distill`."""
    for key in _keys("trainer", given, parameters(TRAINER) or {}):
        name = key.name.removeprefix("trainer.")
        changed = name in TRAINER_DEFAULTS and not key.given
        yield key._replace(value=as_text(TRAINER_DEFAULTS[name])) if changed else key


def run_keys(given: Mapping[str, Any]) -> Iterator[Key]:
    """The keys of the group `run`."""
    return _keys("run", given, parameters(RUN) or {})


def as_text(value: Any) -> str:
    """A value as one types it."""
    text = dump_yaml(value, default_flow_style=True, width=10_000)
    return text.removesuffix("\n...\n").strip()


def _keys(prefix: str, given: Mapping[str, Any], known: Mapping[str, Parameter]) -> Iterator[Key]:
    for name, parameter in known.items():
        dotted, value = f"{prefix}.{name}".lstrip("."), given.get(name)
        settings = next((kind.settings for kind in parameter.types if kind.kind == "settings"), None)
        component = next((kind for kind in parameter.types if kind.kind == "component"), None)
        if settings is not None:
            yield from _keys(dotted, _mapping(value), parameters(settings) or {})
        elif component is not None and isinstance(value, Mapping) and "class_path" in value:
            path = str(value["class_path"])
            yield Key(dotted, parameter.types, path, True, purpose(path))
            yield from component_keys(dotted, path, _mapping(value.get("init_args")), component.supplied)
        else:
            text = as_text(value) if name in given else _default(parameter.default)
            yield Key(dotted, parameter.types, text, name in given, parameter.description)


def _default(source: str | None) -> str | None:
    if source is None:
        return None
    try:
        value = ast.literal_eval(source)
    except ValueError:  # made by a call
        return source
    return as_text(list(value) if isinstance(value, tuple) else value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
