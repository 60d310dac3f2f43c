"""Turns a parser failure into one line: the dotted recipe key, what was given, and the nearest names that exist."""

import inspect
import re
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytorch_lightning as pl

from distill.errors import UserError, unknown_name

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
_NOISE = re.compile(r"^(Does not validate|Subtypes:|Errors:|Given value|- Expected a <class 'NoneType'>)")


def hidden_user_error(error: BaseException | None) -> UserError | None:
    """The UserError of a constructor, which jsonargparse wraps in an error of its own."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


def explain(message: str, recipe: Path) -> UserError:
    """The user's error behind the text of a jsonargparse failure.

    Args:
        message: The text.
        recipe: The file that was parsed.
    """
    lines = message.splitlines()
    if "parsing config" in lines[0]:
        return UserError(f"{recipe} is no valid YAML: {' '.join(message.split())}; correct the file")
    prefix: list[str] = []
    owner: Any = None
    for line in lines:
        if found := _KEY.search(line):
            prefix += [part for part in found[1].split(".") if part != "init_args"]
        if found := _CLASS.search(line):
            owner = _import(found[1])
        if found := _FACTORY.search(line):
            owner = _factory(owner, prefix[-1], _import(found[1]))
        if found := _OPTION.search(line):
            return _unknown_option(prefix, owner, found)
        if found := _ATTRIBUTE.search(line):
            module = import_module(found[1])
            names = getattr(module, "__all__", None) or [n for n, v in vars(module).items() if inspect.isclass(v)]
            return unknown_name(f"class in {_dotted(prefix)} (module {found[1]})", found[2], names)
        if found := _MODULE.search(line):
            return UserError(
                f"{_dotted(prefix)}: there is no module {found[1]!r}; "
                "classes live in distill, distill.data, students, teachers and heads"
            )
    telling = [line.strip().lstrip("- ") for line in lines if not _NOISE.match(line.strip())]
    detail = next((line for line in reversed(telling) if not line.endswith(":")), telling[-1] if telling else message)
    where = f"{_dotted(prefix)}: " if prefix else ""
    return UserError(f"{where}{_plain(detail)}; see `distill fit RECIPE --print_config` for keys and types")


def _unknown_option(prefix: list[str], owner: Any, found: re.Match[str]) -> UserError:
    given = (found["a"] or found["b"] or found["c"]).replace(".init_args", "")
    if found["group"] in ("fit", "validate", "test") or (found["c"] and owner is None):
        # A key of the command itself, such as trainer.max_stepz.
        parent, _, name = given.rpartition(".")
        prefix = parent.split(".")
        if prefix == ["trainer"]:
            given, allowed = name, list(inspect.signature(pl.Trainer).parameters)
        elif prefix == ["run"]:
            from distill.report.run_folder import RunSettings

            given, allowed = name, list(inspect.signature(RunSettings).parameters)
        else:
            prefix, given = [], given.partition(".")[0]
            allowed = ["model", "data", "trainer", "run", "seed_everything", "ckpt_path"]
    elif found["group"]:
        prefix = [*prefix, found["group"]]
        allowed = _fields(owner, found["group"])
    else:
        given, _, rest = given.partition(".")
        allowed = list(inspect.signature(owner).parameters) if owner else []
        if rest and given in allowed:
            prefix, given, allowed = [*prefix, given], rest, _fields(owner, given)
    return unknown_name(f"key in {_dotted(prefix)}" if prefix else "recipe key", given, allowed)


def _fields(owner: Any, parameter: str) -> list[str]:
    """Names accepted below a constructor parameter whose type is a settings dataclass."""
    annotation = inspect.signature(owner).parameters[parameter].annotation if owner else None
    for candidate in getattr(annotation, "__args__", (annotation,)):
        if inspect.isclass(candidate) and hasattr(candidate, "__dataclass_fields__"):
            return list(candidate.__dataclass_fields__)
    return []


def _factory(owner: Any, parameter: str, made: Any) -> Any:
    """A class that a recipe configures and its owner calls, without the arguments that the owner supplies."""
    annotation = inspect.signature(owner).parameters[parameter].annotation if owner and made else None
    supplied: Any = next(iter(get_args(annotation)), [])
    return partial(made, *supplied) if isinstance(supplied, list) and made else made


def _import(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return None


def _dotted(prefix: list[str]) -> str:
    return ".".join(prefix) or "the recipe"


def _plain(detail: str) -> str:
    """Python's spelling of types in words, without the whole component that holds the value."""
    detail = re.sub(r"(Got value: .*?)\. Got value: \w*[({]'?class_path.*", r"\1", detail)
    return re.sub(r"<class '([^']+)'>", r"\1", detail)
