"""Checks the names and types in a recipe and its overrides from the sources of our classes, in a tenth of a second.

Parsing in earnest imports PyTorch, Lightning and MMDetection first. What is not ours, or not certain, is left to it.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from distill.errors import UserError, unknown_name
from distill.recipe.find import shipped
from distill.recipe.signatures import OWN, Parameter, Type, class_names, method_parameters, parameters

GROUPS = ("model", "data", "trainer", "run", "seed_everything")
TRAINER = "pytorch_lightning.Trainer"
RUN = "distill.runs.settings.RunSettings"
WAY_OUT = "see `distill fit RECIPE --print_config` for keys and types"
# Arguments of the trainer's methods that LightningCLI supplies.
_SUPPLIED = {"model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule"}
# Options of the parser, which are no keys of a recipe.
_OPTIONS = ("config", "print_config", "help")
_FILES = (".yaml", ".yml", ".json")  # the parser reads a value from a file
# What `distill` sets in place of Lightning's defaults.
TRAINER_DEFAULTS = {
    "devices": 1,
    "max_epochs": -1,
    "check_val_every_n_epoch": None,  # recipes count steps, not epochs
    "val_check_interval": 500,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
}
_COMPONENT = {"class_path", "init_args", "dict_kwargs"}
_WORDS = {
    "int": ("a whole number",),
    "float": ("a number",),
    "bool": ("true", "false"),
    "str": ("text",),
    "list": ("a list",),
    "tuple": ("a list",),
    "dict": ("a mapping",),
    "settings": ("a class path", "a mapping"),
    "component": ("a class path", "a mapping"),
    "None": ("null",),
}


def check(stage: str, recipe: Path, words: Sequence[str], complete: bool = True) -> None:
    """Checks what can be checked of a recipe and its overrides without importing anything.

    Args:
        stage: fit, validate or test.
        recipe: The recipe file.
        words: What follows the recipe on the command line.
        complete: Whether everything that a class needs must be there.

    Raises:
        UserError: The first wrong word, key, class or type.
    """
    tree = merged(recipe, words)
    own = [name for name in method_parameters(TRAINER, stage) if name not in _SUPPLIED]
    for name in tree:
        if name not in (*GROUPS, *own):
            raise unknown_name("recipe key", name, (*GROUPS, *own))
    _check_group("trainer", tree.get("trainer"), parameters(TRAINER))
    _check_group("run", tree.get("run"), parameters(RUN))
    callbacks = (tree.get("trainer") or {}).get("callbacks")
    for callback in callbacks if isinstance(callbacks, list) else ():
        _check_component("trainer.callbacks", callback)
    for name in ("model", "data"):
        if tree.get(name) is None and complete:
            raise UserError(f"{recipe} has no {name}; a recipe is a mapping with model, data and trainer")
        _check_component(name, tree.get(name), complete=complete)


def merged(recipe: Path, words: Sequence[str]) -> dict[str, Any]:
    """The recipe with the overrides in place, as far as they can be read without the parser.

    Raises:
        UserError: The recipe is no mapping, or a word on the command line is in no pair of key and value.
    """
    tree = read_recipe(recipe)
    for key, value in _pairs(recipe, words):
        _put(tree, key.split("."), value)
    return tree


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe as nested mappings.

    Raises:
        UserError: The file is no YAML, or holds no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no valid YAML: {' '.join(str(error).split())}; correct the file") from error
    if not isinstance(content, dict):
        held = "is empty" if content is None else f"holds {'a list' if isinstance(content, list) else 'text'}"
        raise UserError(f"{path} {held}; a recipe is a mapping with model, data and trainer")
    tree: dict[str, Any] = {}
    for key, value in content.items():
        _put(tree, str(key).split("."), value)
    return tree


def _pairs(recipe: Path, words: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Keys and values on the command line, those of further files included."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            if word.endswith((".yaml", ".yml")) or word in shipped():
                raise UserError(f"two recipes were given, {recipe} and {word}; a run takes one")
            raise UserError(f"{word!r} follows no --key; after the recipe come pairs --key value")
        key, equals, value = word[2:].partition("=")
        name = key.rpartition(".")[2]
        if not equals and rest and not rest[0].startswith("--") and name != "print_config":
            value, equals = rest.pop(0), "="
        if key == "config" and equals:
            yield from (_read(value) or {}).items()
        elif name in _OPTIONS or key.endswith("+"):
            continue
        elif equals:
            yield key, _value(value)
        else:
            raise UserError(f"--{key} has no value; give one behind it")


def _read(value: str) -> dict[str, Any] | None:
    if Path(value).is_file():
        return read_recipe(Path(value))
    content = _value(value)
    return content if isinstance(content, dict) else None


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _put(tree: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Sets a nested key, through `init_args` where the recipe leaves it out."""
    name, *rest = keys
    if _COMPONENT & tree.keys() and name not in _COMPONENT:
        tree = tree.setdefault("init_args", {})
    old = tree.get(name)
    if isinstance(old, str) and (rest or isinstance(value, dict)) and name not in _COMPONENT:
        old = tree[name] = {"class_path": old}
    if rest:
        if not isinstance(old, dict):
            old = tree[name] = {}
        _put(old, rest, value)
    elif isinstance(old, dict) and isinstance(value, str) and "class_path" in old:
        _put(old, ["class_path"], value)
    elif isinstance(old, dict) and isinstance(value, dict):
        for key in sorted(value, key=lambda key: key != "class_path"):
            if "class_path" in value and key not in _COMPONENT:
                old[key] = value[key]  # which is refused
            else:
                _put(old, [str(key)], value[key])
    else:
        if name == "class_path" and old not in (None, value) and isinstance(tree.get("init_args"), dict):
            known = parameters(str(value))  # the parser drops what the new class does not take
            tree["init_args"] = {k: v for k, v in tree["init_args"].items() if known is not None and k in known}
        tree[name] = value


def _check_group(key: str, group: Any, known: Mapping[str, Parameter] | None, complete: bool = True) -> None:
    """The keys of a mapping, and their values."""
    if group is None or known is None or (isinstance(group, str) and group.endswith(_FILES)):
        return
    if not isinstance(group, dict):
        raise UserError(f"{key}: given {str(group)!r}, expected a mapping; {WAY_OUT}")
    for name, value in group.items():
        if name not in known:
            raise unknown_name(f"key in {key}", str(name), known)
        _check_value(f"{key}.{name}", value, known[name].types, complete)


def _check_component(key: str, value: Any, supplied: int = 0, complete: bool = True) -> None:
    """A class and its arguments, without the first ones, which its owner supplies."""
    if isinstance(value, str):
        value = {"class_path": value}
    if not isinstance(value, dict) or "class_path" not in value:
        return
    path, arguments = value["class_path"], value.get("init_args") or {}
    if not isinstance(path, str):
        raise UserError(f"{key}.class_path: given {path}, expected a class path, such as students.RS4D; {WAY_OUT}")
    if beside := value.keys() - _COMPONENT:
        raise UserError(f"{key}: {', '.join(sorted(map(str, beside)))} stands beside class_path; move it to init_args")
    if path.endswith(_FILES):
        return
    _check_class(key, path)
    known = parameters(path) if path.split(".")[0] in OWN else None
    if known is None:
        return
    known = dict(list(known.items())[supplied:])
    _check_group(f"{key}.init_args" if not isinstance(arguments, dict) else key, arguments, known, complete)
    missing = [name for name, parameter in known.items() if parameter.default is None and name not in arguments]
    if missing and complete:
        raise UserError(
            f"{key}: {path} needs {', '.join(missing)}; add to the recipe what is missing, or pass "
            f"--{key}.{missing[0]} VALUE"
        )


def _check_class(key: str, path: str) -> None:
    """Whether there is such a class: in our packages, or at least a package to look in."""
    module, _, name = path.rpartition(".")
    package = path.partition(".")[0]
    if not module and package in OWN:
        raise UserError(f"{key}: {path} is a package; name a class of it: {', '.join(class_names(path) or ())}")
    if not module:
        return  # the parser knows some classes by their bare names
    if package not in OWN:
        if package and find_spec(package) is None:
            raise _no_module(key, package)
        return
    names = class_names(module)
    if names is None:
        raise _no_module(key, module)
    if name not in names and parameters(path) is None:
        raise unknown_name(f"class in {key} (module {module})", name, names)


def _no_module(key: str, module: str) -> UserError:
    return UserError(
        f"{key}: there is no module {module!r}; classes live in distill, distill.data, students, teachers and heads, "
        "or in a package of yours on PYTHONPATH"
    )


def _check_value(key: str, value: Any, types: Sequence[Type], complete: bool) -> None:
    kinds = {kind.kind for kind in types}
    if "any" in kinds or (isinstance(value, str) and value.endswith(_FILES)):
        return
    fitting = [kind for kind in types if _fits(value, kind)]
    if not fitting:
        words = dict.fromkeys(word for kind in types for word in _words(kind))
        *others, last = words
        allowed = f"{', '.join(others)} or {last}" if others else last
        given = "null" if value is None else value
        raise UserError(f"{key}: given {given}, expected {allowed}; {WAY_OUT}")
    kind = fitting[0]
    if kind.kind == "component" or (kind.kind == "settings" and "class_path" in value):
        _check_component(key, value, kind.supplied, complete)
    elif kind.kind == "settings":
        _check_group(key, value, parameters(kind.settings), complete)
    elif kind.kind in ("list", "tuple") and len(fitting) == 1:
        items = kind.items if kind.kind == "tuple" else kind.items * len(value)
        if len(items) != len(value):
            raise UserError(f"{key}: given {value}, expected a list of {len(items)}; {WAY_OUT}")
        for item, item_types in zip(value, items, strict=True):
            _check_value(key, item, item_types, complete)
    elif kind.kind == "dict" and len(fitting) == 1 and kind.items:
        for name, item in value.items():
            _check_value(f"{key}.{name}", item, kind.items[0], complete)


def _words(kind: Type) -> Sequence[str]:
    """A type in words."""
    return _WORDS.get(kind.kind) or [str(word) for word in kind.words]


def _fits(value: Any, kind: Type) -> bool:
    """Whether a value may be of a type; what the parser might turn into it counts."""
    match kind.kind:
        case "None":
            return value is None
        case "int":
            return (isinstance(value, int) and not isinstance(value, bool)) or _is_number(value, whole=True)
        case "float":
            return (isinstance(value, int | float) and not isinstance(value, bool)) or _is_number(value)
        case "bool":
            return isinstance(value, bool) or str(value).lower() in ("true", "false")
        case "str":
            return value is not None and not isinstance(value, list)  # `a: b` is text to the parser where text goes
        case "list" | "tuple":
            return isinstance(value, list)
        case "dict":
            return isinstance(value, dict)
        case "literal":
            return value in kind.words
        case "settings":
            return isinstance(value, dict)
        case _:
            return isinstance(value, str | dict)


def _is_number(value: Any, whole: bool = False) -> bool:
    """Whether it is one in the parser's eyes, to which 1e-3 is a number and to YAML is text."""
    if isinstance(value, float):
        return not whole or value.is_integer()
    if not isinstance(value, str):
        return False
    try:
        number = float(value)
    except ValueError:
        return False
    return not whole or number.is_integer()
