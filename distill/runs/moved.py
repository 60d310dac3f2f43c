"""Paths in the recipe of a run, for a command that is given in another folder."""

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
        key: Its dotted key.
        given: As the recipe has it.
        path: Where it leads from the folder that the run was started in.
    """

    key: str
    given: str
    path: Path


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
    content = read_recipe(recipe)
    found = (pair for group in ("model", "data") for pair in _strings(content.get(group), group))
    relative = [(key, Path(given)) for key, given in found if is_path(key) and not Path(given).is_absolute()]
    places = [(key, given, [start / given for start in starts]) for key, given in relative]
    return [
        Moved(key, str(given), next((place for place in there if place.exists()), there[0]))
        for key, given, there in places
        if any(place.exists() for place in there) or not given.exists()
    ]


def words_for(moved: list[Moved]) -> list[str]:
    """What to add after the recipe on the command line, so that these paths are found."""
    return [f"--config={json.dumps({one.key: str(one.path) for one in moved})}"] if moved else []


def explain_missing(error: UserError, moved: list[Moved]) -> UserError:
    """The error, with where the path in it comes from."""
    for one in moved:
        key = one.key.replace(".init_args", "")
        if str(one.path) in str(error) and not one.path.exists() and f"--{key} " not in str(error):
            return UserError(
                f"{error}; {one.given} is relative to the folder that the run was started in, and is not here either: "
                f"pass --{key} PATH"
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


def _strings(tree: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Dotted keys of all texts below a group."""
    if isinstance(tree, str):
        yield prefix, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            if "." not in str(key):  # a key of another tree, such as MMDetection's
                yield from _strings(value, f"{prefix}.{key}")
