"""Removes folders, accounts and addresses of a machine from what others see; names of files stay."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.runs.moved import is_path

_PLACE = re.compile(r"[/\\~]|[A-Za-z]:[/\\]|\.\.[/\\]|\w+://")  # how that of a place begins


def without_places(node: Any, key: str = "") -> Any:
    """A part of a recipe without places of the machine: names of files stay, folders are removed.

    Args:
        node: Mappings, lists and values.
        key: Under which it stands; the items of a list stand under the key of the list.
    """
    if isinstance(node, Mapping):
        return {name: without_places(value, str(name)) for name, value in node.items()}
    if isinstance(node, list):
        return [without_places(value, key) for value in node]
    if isinstance(node, str) and (is_path(key) or _PLACE.match(node) or str(Path.home()) in node):
        name = Path(node.replace("\\", "/")).name
        return name if Path(name).suffix else None
    return node
