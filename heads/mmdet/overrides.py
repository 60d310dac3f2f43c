"""A recipe's changes to MMDetection's configuration, each checked against what MMDetection accepts."""

import copy
import inspect
from collections.abc import Iterator
from typing import Any

from distill.errors import UserError, unknown_name
from heads.mmdet.mmcv_ops import ensure_mmcv_ops

_DELETE = "_delete_"
_BATCHED_NMS = ("split_thr", "class_agnostic")  # read by mmcv.ops.batched_nms, which passes on the rest


def apply_overrides(config: dict[str, Any], overrides: dict[str, Any], owner: str) -> dict[str, Any]:
    """Merges `overrides` into a copy of `config`.

    Keys may be nested or dotted: `{"test_cfg": {"rcnn": {"score_thr": 0.1}}}` is `{"test_cfg.rcnn.score_thr": 0.1}`. In
    a list, a number chooses one entry, and any other key goes to all of them. `_delete_: true` replaces a section
    instead of merging into it. A key that is not there yet must be an argument of what the section's `type` names.

    Args:
        config: Sections in MMDetection's notation.
        overrides: What the recipe says.
        owner: The head, for messages.

    Raises:
        UserError: A key does not exist, or puts a value in place of a section.
    """
    merged = copy.deepcopy(config)
    merge = _Merge(owner)
    for path, value in _flat(copy.deepcopy(overrides)):
        merge.assign(merged, path, value, [])
    merge.check()
    return merged


def _flat(overrides: dict[str, Any]) -> Iterator[tuple[list[str], Any]]:
    """Dotted keys taken apart, sections down to their leaves; a section to be replaced stays whole."""
    for key, value in overrides.items():
        path = str(key).split(".")
        if isinstance(value, dict) and not value.pop(_DELETE, False):
            yield from (([*path, *rest], leaf) for rest, leaf in _flat(value))
        else:
            yield path, value


class _Merge:
    """Writes values into a configuration and remembers which keys of which sections have to be checked."""

    def __init__(self, owner: str) -> None:
        self._owner = f"overrides of heads.{owner}"
        self._written: list[tuple[str, dict[str, Any], list[str]]] = []

    def assign(self, node: Any, path: list[str], value: Any, walked: list[str]) -> None:
        key, *rest = path
        below = [*walked, key]
        if isinstance(node, list) and not key.isdigit():
            for index, entry in enumerate(node):
                self.assign(entry, path, value, [*walked, str(index)])
        elif isinstance(node, list):
            if int(key) >= len(node):
                raise unknown_name(self._where(walked), key, map(str, range(len(node))))
            if rest:
                self.assign(node[int(key)], rest, value, below)
            else:
                self._require_section(node[int(key)], value, below)
                node[int(key)] = value
        elif not isinstance(node, dict):
            raise UserError(f"{self._owner}: {'.'.join(walked)} is the value {node!r}, which has no key {key!r}")
        elif key not in node and "type" not in node:
            raise unknown_name(self._where(walked), key, node)
        elif rest and key in node:
            self.assign(node[key], rest, value, below)
        else:
            self._require_section(node.get(key), value, below)
            self._written.append((self._where(walked), node, path))
            for part in path[:-1]:  # a section of the type that we leave at its default, such as init_cfg
                node = node.setdefault(part, {})
            node[path[-1]] = copy.deepcopy(value)  # a list gives every entry its own

    def _require_section(self, there: Any, value: Any, walked: list[str]) -> None:
        """Refuses a value in place of a section, which would fail later."""
        if _is_section(there) and not _is_section(value):
            raise UserError(
                f"{self._owner}: {'.'.join(walked)} is {value!r}, but that is a section; give keys of it, "
                f"or a whole one with {_DELETE}: true"
            )

    def check(self) -> None:
        """Last, because a `type` may come after the keys that it accepts."""
        for where, section, (key, *_) in self._written:
            accepted = _accepted(section.get("type"))
            if accepted is not None and key not in (*accepted, "type"):
                raise unknown_name(where, key, accepted)

    def _where(self, walked: list[str]) -> str:
        return f"key in {self._owner}, section {'.'.join(walked)}" if walked else f"section in {self._owner}"


def _is_section(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(entry, dict) for entry in value))


def _accepted(kind: Any) -> list[str] | None:
    """Arguments of a registered type or of an operator of mmcv; None where they cannot be known."""
    if not isinstance(kind, str):
        return None
    ensure_mmcv_ops()
    import mmcv.ops
    from mmdet.registry import MODELS, TASK_UTILS
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope("mmdet"):
        found = MODELS.get(kind) or TASK_UTILS.get(kind)
    if found is None:
        operator = vars(mmcv.ops).get(kind)
        return None if operator is None else [*inspect.signature(operator).parameters, *_BATCHED_NMS]
    names: dict[str, None] = {}
    for base in inspect.getmro(found):
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        names |= dict.fromkeys(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self")
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(names)
