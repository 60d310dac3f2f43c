"""Names of recipe keys in earlier versions: files, stored runs and overrides that use them stay readable."""

from collections.abc import Mapping
from typing import Any

from distill.recipe.signatures import lineage, parameters

# Class: its keys, old name to new. What stands here for a class holds for those that derive from it. A dotted name is a
# key of a group, as `rotate` of `augmentation`, which moves out of it.
KEYS: dict[str, dict[str, str]] = {
    "distill.data.folder.ImageFolder": {"scale": "crop_area"},
    "distill.data.base.LabelledImages": {"augmentation.rotate": "turns"},
    "distill.data.semantic.SemanticImages": {"scale": "scale_jitter"},
    "distill.tasks.corruption.settings.CorruptionSettings": {"ratio": "control"},
}

COMPONENT = {"class_path", "init_args", "dict_kwargs"}


def current(value: Any, base: Any, said: list[str], owner: str = "") -> Any:
    """A part of a recipe with the names that its keys have today.

    Args:
        value: The part, as somebody wrote it.
        base: What stands in its place before it, and knows the class where `value` does not say it.
        said: Gets a line for every old name.
        owner: The class whose keys these are; not needed of a component.
    """
    if isinstance(value, list):
        return [current(item, None, said) for item in value]
    if not isinstance(value, Mapping):
        return value
    base = base if isinstance(base, Mapping) else {}
    if COMPONENT & (value.keys() | base.keys()):
        owner = str(value.get("class_path") or base.get("class_path") or "")
    written: dict[str, Any] = {}
    renames = _renames(owner)
    for key, part in value.items():
        name = str(key)
        if name == "init_args":
            written[name] = current(part, base.get(name), said, owner)
            continue
        if name not in COMPONENT and name in renames:
            said.append(f"{name} of {owner} is called {renames[name]} now")
            name = renames[name]
        inner = base if name in base else base.get("init_args") or {}
        written[name] = current(part, inner.get(name), said, _settings(owner, name))
    for old, new in renames.items():
        group, _, name = old.rpartition(".")
        if group and isinstance(written.get(group), dict) and name in written[group]:
            said.append(f"{old} of {owner} is called {new} now")
            written[new] = written[group].pop(name)
            if not written[group]:
                del written[group]
    return written


def _renames(owner: str) -> dict[str, str]:
    """Old and new names of a class's keys."""
    known = lineage(owner) if owner else []
    return {old: new for path, names in KEYS.items() if lineage(path)[0] in known for old, new in names.items()}


def _settings(owner: str, name: str) -> str:
    """The dataclass that holds a key's own keys; empty if it takes none."""
    parameter = (parameters(owner) or {}).get(name) if owner else None
    return next((kind.settings for kind in parameter.types if kind.settings), "") if parameter else ""
