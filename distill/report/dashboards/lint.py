"""The names that a workspace or a report uses, against those that its runs log.

W&B checks none of them: a panel for a name that nobody logs stays empty. What is read here is the JSON that is sent to
W&B, whatever made it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from distill.report.dashboards.fields import Names

# What W&B itself knows of every run.
_OF_RUNS = frozenset(
    (
        "name",
        "displayName",
        "state",
        "createdAt",
        "heartbeatAt",
        "duration",
        "username",
        "group",
        "jobType",
        "tags",
        "notes",
        "sweep",
        "host",
        "inputArtifacts",
        "outputArtifacts",
        "_step",
        "_runtime",
        "_absolute_runtime",
        "_timestamp",
    )
)
_SECTIONS = {  # how the app begins a name that says what it is of, and what that is
    "summary:": "summary",
    "summary_metrics.": "summary",
    "config:": "config",
    "config.": "config",
    "run:": "run",
    "tags:": "run",
}
_RUN_SET = "run set"
_AXES = ("xAxis", "yAxis", "zAxis", "accessor", "targetKey", "groupBy", "metrics", "legendFields", "columnOrder")
_COLUMNS = ("columnPinned", "columnVisible", "columnWidths")
_TEXTS = ("expressions", "xExpression", "legendTemplate")
_SAMPLES = ("gridSettings", "gallerySettings")  # their axes are runs, steps and indices
_INSIDE = {  # what lies where under a key
    ("", "runSets"): _RUN_SET,
    ("", "settings"): "settings",
    **{(_RUN_SET, key): f"{_RUN_SET}, {key}" for key in ("filters", "grouping", "sort")},
}
_KEYED = ("summary", "config", "history")  # what a custom chart may ask for by keys
_PLAIN = {"targetKey": "summary", "groupBy": "run", "legendFields": "run", "columnOrder": "run"}


class Use(NamedTuple):
    """A name as a workspace or a report uses it.

    Attributes:
        kind: "summary", "config", "history", "media" or "run", which is what W&B itself knows.
        name: As it is logged.
        place: The panel or run set, and its key.
    """

    kind: str
    name: str
    place: str


def lint(wire: Mapping[str, Any], names: Names) -> list[str]:
    """The faults in the names of a workspace or a report: a line for each name that no run logs.

    Args:
        wire: Its JSON.
        names: What the runs log.
    """
    return [
        f"{use.place}: no run logs {use.name!r} ({use.kind})"
        for use in uses(wire)
        if use.name not in _allowed(use.kind, names)
    ]


def uses(wire: Mapping[str, Any]) -> list[Use]:
    """Every use of a name, in the order of the JSON."""
    return list(_uses(wire, ""))


def count_panels(wire: Any) -> int:
    """How many panels a workspace or a report has."""
    children = wire.values() if isinstance(wire, dict) else wire if isinstance(wire, list) else ()
    own = isinstance(wire, dict) and "viewType" in wire
    return own + sum(map(count_panels, children))


def _allowed(kind: str, names: Names) -> frozenset[str]:
    known = {
        "summary": names.summary,
        "config": names.config,
        "history": names.history | _OF_RUNS,  # the x axis of a curve may be either
        "media": names.media,
    }
    return known.get(kind, _OF_RUNS)


def _uses(node: Any, place: str) -> Iterator[Use]:
    if isinstance(node, list):
        for child in node:
            yield from _uses(child, place)
    elif isinstance(node, dict):
        place = _place(node, place)
        yield from _keyed(node, place)
        for key, value in node.items():
            yield from _named(key, value, f"{place}, {key}")
            if key not in _SAMPLES:
                yield from _uses(value, _INSIDE.get((place, key), place))


def _place(node: dict[str, Any], place: str) -> str:
    """Where a node lies: the section, then the panel in it."""
    if "viewType" in node:
        title = (node.get("config") or {}).get("chartTitle")
        panel = f"{node['viewType']} {title!r}" if title else node["viewType"]
        return f"{place}, {panel}" if place else panel
    return f"section {node['name']!r}" if isinstance(node.get("panels"), list) else place


def _named(key: str, value: Any, place: str) -> Iterator[Use]:
    """Names in a value that only holds names, by its key."""
    given = list(value) if isinstance(value, list | dict) else [value]
    texts = [text for text in given if isinstance(text, str)]
    if key in _AXES:
        yield from (_use(text, _PLAIN.get(key, "history"), place) for text in texts)
    elif key in _COLUMNS:
        yield from (_use(text, "run", place) for text in texts)
    elif key == "mediaKeys":
        yield from (Use("media", text, place) for text in texts)
    elif key in _TEXTS:
        found = (name for text in texts for name in re.findall(r"\$\{(.*?)\}", text))
        yield from (_use(name, "history", place) for name in found)


def _keyed(node: dict[str, Any], place: str) -> Iterator[Use]:
    """Names in a node that says itself what they are of: a filter, a grouping, an order, or a query."""
    name = node.get("name")
    if isinstance(node.get("section"), str) and isinstance(name, str):
        kind = "history" if node["section"] == "keys_info" else node["section"]
        yield Use(kind, _without_value(name) if kind == "config" else name, place)
    elif name == "tableKey":
        yield Use("summary", node["value"], f"{place}, {name}")
    elif name == "pick":
        yield Use("summary", node["inputs"]["key"]["val"], f"{place}, table")
    elif name in _KEYED:
        keys = (argument["value"] for argument in node.get("args") or [] if argument.get("name") == "keys")
        yield from (Use(name, key, f"{place}, {name}") for given in keys for key in given)


def _use(text: str, plain: str, place: str) -> Use:
    """The use of a name as the app writes it; `plain` is what it is of if it does not say so."""
    for begin, kind in _SECTIONS.items():
        if text.startswith(begin):
            name = text.removeprefix(begin)
            return Use(kind, _without_value(name) if kind == "config" else "tags" if begin == "tags:" else name, place)
    if plain == "run" and ".value" in text:  # a panel's grouping
        return Use("config", _without_value(text), place)
    return Use(plain, text, place)


def _without_value(name: str) -> str:
    """The name of an entry of the config, which the app calls `name.value`."""
    return name.replace(".value", "", 1)
