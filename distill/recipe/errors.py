"""Turns a parser failure into one line: the dotted recipe key, what was given, and the nearest names that exist.

Most mistakes never get here, see `distill.recipe.check`; those in values of Lightning and in classes of others do.
"""

import argparse
import inspect
import re
import traceback
from dataclasses import fields, is_dataclass
from functools import partial
from importlib import import_module
from pkgutil import resolve_name
from typing import Any, get_args

from jsonargparse import ArgumentParser

from distill.errors import UserError, unknown_name
from distill.recipe.check import WAY_OUT

_KEY = re.compile(r'Parser key "([^"]+)"')
_FACTORY = re.compile(r"expects a function or a callable class: .*Got value: \w*[({]'?class_path'?[=:] ?'([^']+)'")
_CLASS = re.compile(r"Problem with given class_path '([^']+)'")
_OPTION = re.compile(
    r"Option '(?P<a>[^']+)' is not accepted"
    r"|(?:Group|Subcommand) '(?P<group>[^']+)' does not accept option '(?P<b>[^']+)'"
    r"|unrecognized arguments: --(?P<c>[^=\s]+)"
)
_ATTRIBUTE = re.compile(r"module '([^']+)' has no attribute '([^']+)'")
_MODULE = re.compile(r"No module named '([^']+)'")
_MISTYPED = re.compile(
    r"(?:- )?(?:Expected a (?!path but)|(?=Not a valid subclass))(?P<type>.*?)(?:\. Got value: (?P<given>.*))?$"
)
_GIVEN = re.compile(r"(?:Given value: |Unable to load config (?=['\"]))(?P<given>.*)")
_NESTED = re.compile(r"^NestedArg\(key='[^']*', val=(.*)\)$")  # how the parser shows a part of a component
_REQUIRED = "the following arguments are required: "
_AGAIN = re.compile(r"\. Got value: \w*[({]'?class_path.*")  # the whole component that holds the value
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true, false",
    "str": "text",
    "list": "a list",
    "tuple": "a list",
    "collections.abc.Iterable": "a list",
    "dict": "a mapping",
    "NoneType": "null",
}
_NOISE = re.compile(r"^(Does not validate|Subtypes:|Errors:|Given value|- Expected a <class 'NoneType'>)")


def hidden_user_error(error: BaseException | None) -> UserError | None:
    """The UserError of a constructor, which jsonargparse wraps in errors of its own, with the key of what was built."""
    keys = _built(error)
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
        keys += _built(error)
    where = ".".join(keys)
    if error is None or not keys or f"{where}." in str(error):
        return error
    return UserError(f"{where}: {error}")


def _built(error: BaseException | None) -> list[str]:
    """Keys whose values were being built when the error came up, outermost first: the parser's actions on its stack."""
    frames = traceback.walk_tb(error.__traceback__ if error else None)
    owners = [frame.f_locals.get("self") for frame, _ in frames if frame.f_code.co_name == "instantiate_classes"]
    return [owner.dest for owner in owners if isinstance(owner, argparse.Action)]


def explain(message: str) -> UserError:
    """The user's error that the text of a jsonargparse failure contains."""
    lines = message.splitlines()
    prefix: list[str] = []
    owner: Any = None
    for line in lines:
        if found := _KEY.search(line):
            prefix += [part for part in found[1].split(".") if part not in ("init_args", *prefix[-1:])]
        if found := _CLASS.search(line):
            owner = _import(found[1])
        if found := _FACTORY.search(line):
            owner = _factory(owner, prefix[-1], _import(found[1]))
        if line.strip().startswith(_REQUIRED) and prefix:
            needed = line.strip().removeprefix(_REQUIRED)
            return UserError(f"{_dotted(prefix)} needs {needed}; add to the recipe what is missing")
        if found := _OPTION.search(line):
            return _unknown_option(prefix, owner, found)
        if found := _ATTRIBUTE.search(line):
            module = import_module(found[1])
            names = vars(module).get("__all__") or [n for n, v in vars(module).items() if inspect.isclass(v)]
            return unknown_name(f"class in {_dotted(prefix)} (module {found[1]})", found[2], names)
        if found := _MODULE.search(line):
            return UserError(
                f"{_dotted(prefix)}: there is no module {found[1]!r}; "
                "classes live in distill, distill.data, students, teachers and heads"
            )
    if error := _mistyped(_dotted(prefix), lines):
        return error
    telling = [line.strip().lstrip("- ") for line in lines if not _NOISE.match(line.strip())]
    detail = next((line for line in reversed(telling) if not line.endswith(":")), telling[-1] if telling else message)
    where = f"{_dotted(prefix)}: " if prefix else ""
    return UserError(f"{where}{detail}; {WAY_OUT}")


def _mistyped(where: str, lines: list[str]) -> UserError | None:
    """A value of another type than its key takes; of nested unions of types the innermost tells."""
    expected: list[str] = []
    for line in map(str.strip, lines):
        if line == "Errors:":
            expected = []
            continue
        if found := _MISTYPED.match(line):
            expected += _in_words(found["type"]).split(", ")
        else:
            found = _GIVEN.match(line)
        if found and found["given"] is not None:  # the end of a union's errors
            *others, last = dict.fromkeys(expected or ["a mapping"])
            allowed = f"{', '.join(others)} or {last}" if others else last
            given = _NESTED.sub(r"\1", _AGAIN.sub("", found["given"]))
            if given.startswith("Namespace("):  # a whole component, in which another line says what is wrong
                return None
            return UserError(f"{where}: given {given}, expected {allowed}; {WAY_OUT}")
    return None


def _in_words(kind: str) -> str:
    """The parser's spelling of a type in words, several with commas between."""
    if found := re.fullmatch(r"typing\.Literal\[(.*)\]", kind):
        return found[1].replace("'", "")
    if found := re.fullmatch(r"<class '(.*)'>", kind):
        return _WORDS.get(found[1], found[1])
    return "a class path, a mapping"


def _unknown_option(prefix: list[str], owner: Any, found: re.Match[str]) -> UserError:
    given = (found["a"] or found["b"] or found["c"]).replace(".init_args", "")
    if found["group"]:
        prefix = [*prefix, found["group"]]
        allowed = _fields(owner, found["group"])
    else:
        given, _, rest = given.partition(".")
        allowed = _names(owner) if owner else []
        if rest and given in allowed:
            prefix, given, allowed = [*prefix, given], rest, _fields(owner, given)
    return unknown_name(f"key in {_dotted(prefix)}" if prefix else "recipe key", given, allowed)


def _names(owner: Any) -> list[str]:
    """Names that a recipe may give to a class or function: where a class hands on **kwargs, those of its bases, too."""
    made, supplied = (owner.func, len(owner.args)) if isinstance(owner, partial) else (owner, 0)
    parser = ArgumentParser()
    add = parser.add_class_arguments if inspect.isclass(made) else parser.add_function_arguments
    return list(add(made, skip={supplied}, fail_untyped=False))


def _fields(owner: Any, parameter: str) -> list[str]:
    """Names accepted below a constructor parameter whose type is a settings dataclass."""
    annotation = _annotation(owner, parameter)
    for candidate in get_args(annotation) or (annotation,):
        if inspect.isclass(candidate) and is_dataclass(candidate):
            return [field.name for field in fields(candidate)]
    return []


def _annotation(owner: Any, parameter: str) -> Any:
    """The type of a constructor parameter, which a base may declare where the class hands on **kwargs."""
    made: Any = owner.func if isinstance(owner, partial) else owner
    for base in inspect.getmro(made) if inspect.isclass(made) else filter(None, [made]):
        if found := inspect.signature(base).parameters.get(parameter):
            return found.annotation
    return None


def _factory(owner: Any, parameter: str, made: Any) -> Any:
    """A class that a recipe configures and its owner calls, without the arguments that the owner supplies."""
    annotation = _annotation(owner, parameter) if made else None
    supplied: Any = next(iter(get_args(annotation)), [])
    return partial(made, *supplied) if isinstance(supplied, list) and made else made


def _import(path: str) -> Any:
    try:
        return resolve_name(path)
    except (ImportError, AttributeError, ValueError):
        return None


def _dotted(prefix: list[str]) -> str:
    return ".".join(prefix) or "the recipe"
