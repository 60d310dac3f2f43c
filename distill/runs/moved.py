"""Paths in the recipe of a run, for a command that is given in another folder."""

import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.recipe.compose import read_recipe
from distill.recipe.find import RUN_RECIPE
from distill.runs.folder import RunFolder

_PATH = re.compile(r"(.+_)?(root|checkpoint)|.+_(images|annotations)")


@dataclass(frozen=True)
class Moved:
    """A relative path of a run's recipe.

    Attributes:
        key: Its dotted key; parts of a list are counted from 0.
        given: As the recipe has it.
        path: Where it leads from the folder that the run was started in.
        override: What sets it on the command line, a key and its value: its own, or those of the list that it is in.
    """

    key: str
    given: str
    path: Path
    override: tuple[str, Any]


def is_path(key: str) -> bool:
    """Whether a dotted key names a file or folder outside the run, which may have moved."""
    return _PATH.fullmatch(key.rpartition(".")[2]) is not None


def moved_paths(recipe: Path) -> list[Moved]:
    """Relative paths of a run's recipe that lead elsewhere from here than from where the run was started.

    A path that exists here and not there is left alone: a run that was moved together with its data.

    Args:
        recipe: A recipe; of one that is not in a run folder there are none.
    """
    starts = started_in(RunFolder(recipe.parent)) if recipe.name == RUN_RECIPE else []
    if not starts or starts[0] == Path.cwd():
        return []
    content = copy.deepcopy(read_recipe(recipe))
    found = (pair for group in ("model", "data") for pair in _strings(content.get(group), group))
    relative = [(key, Path(given)) for key, given in found if is_path(key) and not Path(given).is_absolute()]
    places = [(key, given, [start / given for start in starts]) for key, given in relative]
    moved = {
        key: (str(given), next((place for place in there if place.exists()), there[0]))
        for key, given, there in places
        if any(place.exists() for place in there) or not given.exists()
    }
    for key, (_, path) in moved.items():
        set_part(content, key, str(path))
    return [Moved(key, given, path, _override(content, key)) for key, (given, path) in moved.items()]


def without_paths(node: Any) -> Any:
    """A part of a recipe in which paths count as given or not: the files may have moved."""
    if isinstance(node, Mapping):
        return {key: value is not None if is_path(str(key)) else without_paths(value) for key, value in node.items()}
    return [without_paths(part) for part in node] if isinstance(node, list) else node


def set_part(content: Any, key: str, value: Any) -> None:
    """Sets what a dotted key names in the content of a recipe, in place."""
    *parents, last = key.split(".")
    for name in parents:
        content = content[int(name) if isinstance(content, list) else name]
    content[int(last) if isinstance(content, list) else last] = value


def words_for(moved: list[Moved]) -> list[str]:
    """The overrides to add on the command line, so that these paths are found."""
    return [f"--config={json.dumps(dict(one.override for one in moved))}"] if moved else []


def explain_missing(error: UserError, moved: list[Moved]) -> UserError:
    """The error, with where the path in it comes from."""
    for one in moved:
        key = one.override[0].replace(".init_args", "")
        if str(one.path) in str(error) and not one.path.exists() and f"--{key} " not in str(error):
            return UserError(
                f"{error}; {one.given} is relative to the folder that the run was started in, and is not here either: "
                f"pass --{key} {'PATH' if one.override[0] == one.key else 'with its path'}"
            )
    return error


def started_in(run: RunFolder) -> list[Path]:
    """Folders that a run may have been started in, the likeliest first.

    Args:
        run: The run folder, or one that holds the runs of several seeds.
    """
    each = (run, *(RunFolder(path) for path in sorted(run.path.glob("seed*"))))
    facts = [one.read_environment() for one in each if one.environment.is_file()]
    stored = [Path(fact["started_in"]) for fact in facts[:1] if "started_in" in fact]
    # Of a run that was moved with its project, or that an earlier version wrote: as far up as its run.dir goes down.
    below = Path(str((read_recipe(run.recipe).get("run") or {}).get("dir") or "")).parts
    place = run.path.resolve().parts
    moved = [Path(*place[: -len(below)])] if below and place[-len(below) :] == below else []
    return [*stored, *moved]


def _override(content: Any, key: str) -> tuple[str, Any]:
    """The key, or that of the first list on the way to it, and its value in the content."""
    names = key.split(".")
    for length, name in enumerate(names, 1):
        content = content[name]
        if isinstance(content, list):
            return ".".join(names[:length]), content
    return key, content


def _strings(tree: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Dotted keys of all texts below a group."""
    if isinstance(tree, str):
        yield prefix, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            if "." not in str(key):  # a key of another tree, such as MMDetection's
                yield from _strings(value, f"{prefix}.{key}")
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from _strings(value, f"{prefix}.{number}")
