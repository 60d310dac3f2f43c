"""The recipe of a model that somebody else shared: only what builds the network is read, and only what cannot run code.

A recipe names classes, and building one runs it: a recipe from elsewhere is a program. So of a shared one nothing is
imported or built before it has gone through `checked`, which knows five ways for a value to become code or a file:

- a `class_path`, at any depth: the parser builds one wherever a value may be anything;
- text that is YAML again, which the parser reads where a value may be anything: only plain words pass;
- text that names a file in the working directory, which the parser reads in place of a component;
- a `type` of MMDetection, which imports what it does not know: only names of losses, heads and the like pass;
- a key that names a file or an address, such as `pretrained` or `init_cfg`.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distill.discovery import names_in
from distill.errors import UserError
from distill.recipe.compose import merge
from distill.recipe.signatures import class_names

PARTS = {"student": "students", "head": "heads"}  # of a model, with the package that each comes from
FACTS = ("image_size", "batch_size", "bands", "zoom")  # of the data module: how images are shown to the network

_WORD = re.compile(r"[\w.+ -]*")
_READS = re.compile(
    r"(\w+_)?(pretrained|ckpt|weights|url|path|file|filename|dir|cfg_overlay|init_cfg|pretrained_cfg)|"
    r"checkpoint_path|_scope_|custom_imports|dict_kwargs"
)
_TYPES = re.compile(
    r"[A-Z]\w*(Loss|Head|Assigner|Sampler|Coder|Generator|Extractor|Overlaps2D)|RoIAlign|nms|soft_nms|"
    r"(Sync)?BN(2d)?|GN|LN|ReLU|GELU|SiLU|Conv(2d)?"
)


def checked(recipe: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The parts of a recipe that loading needs, with the current names of keys.

    Args:
        recipe: As its file has it; see `distill.recipe.compose.read_raw`.
        source: How it is called in errors.

    Returns:
        `model` with its class, its numbers, `student` and `head`, without files of initial weights; `data` with the
        facts of `FACTS`; `trainer` with its precision.

    Raises:
        UserError: It names a class that is no component of this project or a file, or it has another form.
    """
    model = _mapping(recipe.get("model"), "model", source)
    path = _class(model, "model", "distill", source)
    given = _mapping(model.get("init_args") or {}, "model.init_args", source)
    arguments: dict[str, Any] = {key: value for key, value in given.items() if _is_number(value)}
    for part, package in PARTS.items():
        if given.get(part) is not None:
            arguments[part] = _component(given[part], f"model.{part}", package, source)
    data = _mapping(_mapping(recipe.get("data"), "data", source).get("init_args") or {}, "data", source)
    precision = _mapping(recipe.get("trainer") or {}, "trainer", source).get("precision")
    if not (_is_number(precision) or isinstance(precision, str)):
        raise _malformed(source, "trainer.precision")
    facts = {key: data[key] for key in FACTS if key in data}
    for key, value in facts.items():
        if not all(map(_is_number, value if isinstance(value, list) else [value])):
            raise _malformed(source, f"data.{key}")
    read = {
        "model": {"class_path": path, "init_args": arguments},
        "data": {"class_path": "distill.data", "init_args": facts},
        "trainer": {"precision": precision},
    }
    renamed: dict[str, Any] = {}
    merge(renamed, read, [])
    return renamed


def _component(given: Any, key: str, package: str, source: str) -> dict[str, Any]:
    component = _mapping(given, key, source)
    path = _class(component, key, package, source)
    arguments = _mapping(component.get("init_args") or {}, f"{key}.init_args", source)
    kept = _without_weights(arguments)
    for name, value in _leaves(kept, key):
        _require_harmless(name, value, source)
    return {"class_path": path, "init_args": kept}


def _class(component: Mapping[str, Any], key: str, package: str, source: str) -> str:
    """The class path, if it is one of a package's classes.

    Raises:
        UserError: It is not.
    """
    path, names = component.get("class_path"), _classes(package)
    if isinstance(path, str) and (path in names or path in names.values()):
        return path
    raise UserError(
        f"{source} names {path!r} as {key}, which is none of {', '.join(names)}; a shared model is built of the "
        "components of this project alone, so that loading it runs no other code: nothing of it has been imported"
    )


def _classes(package: str) -> dict[str, str]:
    """Classes that a recipe may name, by package, each with its module; of `distill` those of tasks."""
    offered = [name for name in class_names(package) or () if package != "distill" or name.endswith("Module")]
    return {f"{package}.{name}": f"{names_in(package)[name]}.{name}" for name in offered}


def _without_weights(node: Any) -> Any:
    """A part of a recipe without files of initial weights, which the weights of the model replace."""
    if isinstance(node, Mapping):
        return {key: None if _is_weights(key, value) else _without_weights(value) for key, value in node.items()}
    return [_without_weights(value) for value in node] if isinstance(node, list) else node


def _is_weights(key: object, value: object) -> bool:
    return str(key).endswith("checkpoint") and isinstance(value, str)


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values, sections included: a key that must not be given may hold one."""
    yield key, node
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _leaves(value, f"{key}.{name}")
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value, key)


def _require_harmless(key: str, value: Any, source: str) -> None:
    name = key.rpartition(".")[2]
    if name == "class_path":
        raise UserError(
            f"{source} names {value!r} as {key}; a shared model is built of the components of this project alone, so "
            "that loading it runs no other code: nothing of it has been imported"
        )
    if name == "type" and not (isinstance(value, str) and _TYPES.fullmatch(value)):
        raise UserError(
            f"{source} has the type {value!r} as {key}; of a shared model only losses, heads and their usual parts are "
            "built by name, so that loading it imports nothing else"
        )
    if _READS.fullmatch(name) and value not in (None, False, "", {}):
        raise UserError(f"{source} has {key} {value!r}; loading a shared model reads and downloads no other file")
    if isinstance(value, str) and not _WORD.fullmatch(value):
        raise UserError(f"{source} has {key} {value!r}; of a shared model only plain words and numbers are read")
    if isinstance(value, str) and Path(value).is_file():
        raise UserError(
            f"{source} has {key} {value!r}, which is the name of a file here, too; load it from another folder"
        )
    if not (_is_number(value) or isinstance(value, str | list | Mapping)):
        raise _malformed(source, key)


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float)


def _mapping(value: Any, key: str, source: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _malformed(source, key)
    return value


def _malformed(source: str, key: str) -> UserError:
    return UserError(f"{source}: {key} has another form than `distill push` gives it; ask for the model again")
