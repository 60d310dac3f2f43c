"""Merges recipes: files and named combinations, later over earlier, with old names replaced.

Mappings merge key by key, anything else replaces. Another `class_path` replaces a component and keeps those arguments
that the new class takes, as overrides on the command line do.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from distill.errors import UserError
from distill.files import dump_yaml, parse_yaml
from distill.recipe.combinations import COMBINATIONS, command
from distill.recipe.find import RUN_RECIPE, find, shipped
from distill.recipe.renamed import COMPONENT, current
from distill.recipe.signatures import parameters

_FEW = 3  # keys that a note names
_OWN = ("dir", "experiment", "reference")  # keys of `run` that belong to one run alone


@dataclass(frozen=True)
class Recipe:
    """The recipe that a run is started from.

    Attributes:
        given: As somebody typed it: paths and names; "MAPPING" of what was given as one in Python.
        file: Its file; None for a composition.
        path: The file; for a composition a path that need not exist. Its stem is the default name of the run.
        content: The whole recipe, as nested mappings.
        notes: Lines to print about renamed recipes and keys.
        words: Arguments with which the parser reads it.
    """

    given: tuple[str, ...]
    file: Path | None
    path: Path
    content: dict[str, Any]
    notes: tuple[str, ...]
    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.given)


def compose(given: Sequence[str | Mapping[str, Any]]) -> Recipe:
    """Finds recipes and merges them, later over earlier.

    Args:
        given: Paths of files or run folders, names that come with the package, and contents of recipes.

    Raises:
        UserError: There is no such recipe, or it is no mapping.
    """
    notes: list[str] = []
    content: dict[str, Any] = {}
    stems = []
    found: list[Path] = []
    own: dict[str, Path] = {}  # keys that the user's own files set
    for name in given:
        before = leaves(content) if own else {}
        if isinstance(name, Mapping):
            merge(content, undotted(name), notes)
            continue
        place = find(name)
        if isinstance(place, Path):
            found.append(place)
            stems.append(place.resolve().parent.name if place.name == RUN_RECIPE else place.stem)
            raw = read_raw(place)
            if place.name == RUN_RECIPE and len(given) > 1 and isinstance(raw.get("run"), dict):
                raw["run"] = {key: value for key, value in raw["run"].items() if key not in _OWN}  # a run of its own
            merge(content, raw, notes)
            if place.resolve() in _shipped_files():
                notes += _replaced(own, before, leaves(content), name)
            elif place.name != RUN_RECIPE:
                own |= dict.fromkeys(leaves(read_recipe(place)), place)
            continue
        notes.append(f"{place} is short for: {command(place)}")
        stems.append(place.rpartition("/")[2])
        for part in COMBINATIONS[place]:
            key, equals, value = part.removeprefix("--").partition("=")
            merge(content, nested(key, read_value(value)) if equals else compose([part]).content, notes)
        notes += _replaced(own, before, leaves(content), name)
    file = found[0] if len(found) == len(given) == 1 else None
    path = file or Path(f"{'_'.join(stems)}.yaml")
    as_it_is = file is not None and not notes
    words = ("--config", str(file)) if as_it_is else (f"--config={on_one_line(content)}",)
    typed = tuple(name if isinstance(name, str) else "MAPPING" for name in given)
    return Recipe(typed, file, path, content, tuple(notes), words)


def read_recipe(path: Path) -> dict[str, Any]:
    """The content of one file as nested mappings, with the names that keys have today.

    Raises:
        UserError: The file is no YAML, or holds no mapping.
    """
    content: dict[str, Any] = {}
    merge(content, read_raw(path), [])
    return content


def merge(tree: dict[str, Any], later: dict[str, Any], notes: list[str]) -> None:
    """Puts a recipe over another one, in place."""
    for key, value in current(later, tree, notes).items():
        put(tree, [key], value)


def make_way(tree: Any, later: Mapping[str, Any], path: Sequence[str] = (), owner: str = "") -> None:
    """Empties what an override replaces where files would be merged, in place.

    The parser replaces the mapping of a key whose names are free, such as `loss.terms`, by one that is given for it.

    Args:
        tree: A recipe, or a part of it.
        later: What will be merged into it.
        path: The outer keys of `later` if they are dotted on the command line, below which nothing is replaced.
        owner: The class whose keys these are; not needed of a component.
    """
    if not isinstance(tree, dict):
        return
    if COMPONENT & (later.keys() | tree.keys()):
        owner = str(later.get("class_path") or tree.get("class_path") or "")
    known = parameters(owner) if owner else None
    for name, value in later.items():
        place = tree if name in tree else tree.get("init_args")
        if not isinstance(value, Mapping) or not isinstance(place, dict) or name not in place:
            continue
        types = known[name].types if known and name in known else ()
        if len(path) < 2 and any(kind.kind == "dict" for kind in types):
            place[name] = {}
            continue
        settings = next((kind.settings for kind in types if kind.settings), "")
        make_way(place[name], value, path[1:], owner if name == "init_args" else settings)


def nested(key: str, value: Any) -> dict[str, Any]:
    """A dotted key and its value as a recipe."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return dict(value)


def read_value(text: str) -> Any:
    """A value of the command line."""
    try:
        return parse_yaml(text)
    except yaml.YAMLError:
        return text


def as_yaml(content: dict[str, Any]) -> str:
    """A recipe as a file holds it."""
    return dump_yaml(content, default_flow_style=None, width=120)


def put(tree: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Sets a nested key, adding `init_args` where the recipe leaves it out."""
    name, *rest = keys
    if COMPONENT & tree.keys() and name not in COMPONENT:
        tree = tree.setdefault("init_args", {})
    old = tree.get(name)
    if isinstance(old, str) and (rest or isinstance(value, dict)) and name not in COMPONENT:
        old = tree[name] = {"class_path": old}
    if rest:
        if not isinstance(old, dict):
            old = tree[name] = {}
        put(old, rest, value)
    elif isinstance(old, dict) and isinstance(value, str) and "class_path" in old:
        put(old, ["class_path"], value)
    elif isinstance(old, dict) and isinstance(value, dict):
        for key in sorted(value, key=lambda key: key != "class_path"):
            if "class_path" in value and key not in COMPONENT:
                old[key] = value[key]  # which is refused
            else:
                put(old, [str(key)], value[key])
    else:
        if name == "class_path" and old not in (None, value) and isinstance(tree.get("init_args"), dict):
            known = parameters(str(value))  # the parser drops what the new class does not take
            tree["init_args"] = {k: v for k, v in tree["init_args"].items() if known is not None and k in known}
        tree[name] = value


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a recipe by their keys as one types them: dotted, a class by the key of its component."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        key = prefix if name in COMPONENT else f"{prefix}.{name}".lstrip(".")
        found |= leaves(value, key) if isinstance(value, Mapping) else {key: value}
    return found


def _shipped_files() -> set[Path]:
    return {path.resolve() for path in shipped().values()}


def _replaced(own: Mapping[str, Path], before: Mapping[str, Any], after: Mapping[str, Any], by: str) -> list[str]:
    """A note where a recipe that comes with the package replaced values of files that the user named before it."""
    keys = [key for key in own if key in before and key in after and before[key] != after[key]]
    if not keys:
        return []
    each = [f"{key} {on_one_line(before[key])} of {own[key]} is replaced by {on_one_line(after[key])}" for key in keys]
    more = f" (and {len(each) - _FEW} more)" if len(each) > _FEW else ""
    return [f"{', '.join(each[:_FEW])}{more} of {by}; name your own file last"]


def on_one_line(value: Any) -> str:
    """A value as the command line takes it."""
    text = dump_yaml(value, default_flow_style=True, width=float("inf"))
    return text.removesuffix("\n...\n").strip()


def read_raw(path: Path) -> dict[str, Any]:
    """The content of one file as nested mappings, with keys as the file spells them.

    Raises:
        UserError: The file is no YAML, or holds no mapping.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no valid YAML: {' '.join(str(error).split())}; correct the file") from error
    if not isinstance(content, dict):
        held = "is empty" if content is None else f"holds {'a list' if isinstance(content, list) else 'text'}"
        raise UserError(f"{path} {held}; a recipe is a mapping with model, data and trainer")
    return undotted(content)


def undotted(content: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe of which keys at the top may be dotted, as nested mappings."""
    tree: dict[str, Any] = {}
    for key, value in content.items():
        put(tree, str(key).split("."), value)
    return tree
