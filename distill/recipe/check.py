"""Checks the names and types in a recipe and its overrides from the sources of our classes, in a tenth of a second.

Real parsing first imports PyTorch, Lightning and MMDetection. It checks other classes and unclear cases.
"""

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from distill.errors import UserError, unknown_name
from distill.recipe.command_line import merged
from distill.recipe.compose import Recipe
from distill.recipe.renamed import COMPONENT
from distill.recipe.signatures import OWN, Parameter, Type, class_names, method_parameters, parameters

GROUPS = ("model", "data", "trainer", "run", "seed_everything")
TRAINER = "pytorch_lightning.Trainer"
RUN = "distill.runs.settings.RunSettings"
WAY_OUT = "see `distill fit RECIPE --print_config` for keys and types"
# Arguments of the trainer's methods that LightningCLI supplies.
_SUPPLIED = {"model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule"}
# A recipe for what another one leaves out.
_FOR_EXAMPLE = {"model": "finetune/mask_rcnn", "data": "data/nwpu"}
# Of steps, epochs and intervals.
_COUNTS = ("trainer.max_steps", "trainer.max_epochs", "trainer.val_check_interval", "run.checkpoint_every")
_SEED = (Type("bool"), Type("int"))
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


def check(stage: str, recipe: Recipe, words: Sequence[str], complete: bool = True) -> None:
    """Checks what can be checked of a recipe and its overrides without importing anything.

    Args:
        stage: fit, validate or test.
        recipe: The recipe.
        words: What follows it on the command line.
        complete: Whether everything that a class needs must be there.

    Raises:
        UserError: The first wrong word, key, class or type.
    """
    tree = merged(recipe, words)
    own = [name for name in method_parameters(TRAINER, stage) if name not in _SUPPLIED]
    for name in tree:
        if name not in (*GROUPS, *own):
            raise unknown_name("recipe key", name, (*GROUPS, *own))
    _check_group("trainer", tree.get("trainer", {}), parameters(TRAINER))
    _check_group("run", tree.get("run", {}), parameters(RUN))
    _check_value("seed_everything", tree.get("seed_everything", 0), _SEED, complete)
    if stage == "fit":
        for key in _COUNTS:
            owner, _, setting = key.partition(".")
            _check_count(key, _mapping(tree.get(owner)).get(setting))
    callbacks = _mapping(tree.get("trainer")).get("callbacks")
    for callback in callbacks if isinstance(callbacks, list) else ():
        _check_component("trainer.callbacks", callback)
    for name in ("model", "data"):
        group = tree.get(name)
        if group is None and complete:
            raise UserError(
                f"{recipe} has no {name}; a recipe is a mapping with model, data and trainer; add the missing part, or "
                f"another recipe that has it, such as {_FOR_EXAMPLE[name]}"
            )
        if isinstance(group, dict) and "class_path" not in group and complete:
            raise UserError(
                f"{recipe}: {name} has no class_path; put a recipe that has it before, such as {_FOR_EXAMPLE[name]}"
            )
        _check_component(name, tree.get(name), complete=complete)


def _mapping(group: Any) -> Mapping[str, Any]:
    """A group of the recipe; empty where it is absent or in a file of its own."""
    return group if isinstance(group, dict) else {}


def _check_count(key: str, value: Any) -> None:
    """Refuses counts of nothing, for which Lightning's -1 is no count."""
    if _is_a_number(value) and float(value) <= 0 and float(value) != -1:
        raise UserError(f"{key} is {value}; it must be above 0")


def _check_group(key: str, group: Any, known: Mapping[str, Parameter] | None, complete: bool = True) -> None:
    """The keys of a mapping, and their values."""
    if known is None or (isinstance(group, str) and group.endswith(_FILES)):
        return
    if not isinstance(group, dict):
        given = "null" if group is None else repr(str(group))
        raise UserError(f"{key}: given {given}, expected a mapping; {WAY_OUT}")
    for name, value in group.items():
        if name not in known:
            raise unknown_name(f"key in {key}", str(name), known)
        _check_value(f"{key}.{name}", value, known[name].types, complete)
        least = known[name].least
        if least is not None and _is_a_number(value) and float(value) < least:
            raise UserError(f"{key}: {name} is {value}; it must be {least} or more")
        if known[name].positive and _is_a_number(value) and float(value) <= 0:
            raise UserError(f"{key}: {name} is {value}; it must be above 0")


def _check_component(key: str, value: Any, supplied: int = 0, complete: bool = True) -> None:
    """A class and its arguments, without the first ones, which its owner supplies."""
    if isinstance(value, str):
        value = {"class_path": value}
    if not isinstance(value, dict) or "class_path" not in value:
        return
    path, arguments = value["class_path"], value.get("init_args") or {}
    if not isinstance(path, str):
        raise UserError(f"{key}.class_path: given {path}, expected a class path, such as students.RS4D; {WAY_OUT}")
    if beside := value.keys() - COMPONENT:
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
            return (isinstance(value, int) and not isinstance(value, bool)) or _is_number(value)
        case "bool":
            return isinstance(value, bool) or str(value).lower() in ("true", "false")
        case "str":
            return value is not None and not isinstance(value, list)  # such as `a: b`, text to the parser
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


def _is_a_number(value: Any) -> bool:
    """Whether it is a number, or the parser takes it for one."""
    return _fits(value, Type("float"))


def _is_number(value: Any, whole: bool = False) -> bool:
    """Whether it is a number with a point, or text that the parser takes for a number, such as "1e-3" in quotes.

    NaN is none: no comparison with a bound would refuse it.
    """
    if not isinstance(value, str | float):
        return False
    try:
        number = float(value)
    except ValueError:
        return False
    return number.is_integer() if whole else not math.isnan(number)
