"""Run folders among the paths that a user names, for verbs that take several."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from distill.errors import UserError
from distill.runs.folder import RunFolder, RunState


def run_folders(given: Sequence[str | PathLike[str]]) -> tuple[list[RunFolder], list[Path]]:
    """The run folders among some paths, in their order and each once.

    A folder that holds the runs of several seeds stands for all of them. Whatever is no run folder is passed over, so
    that a pattern such as `runs/demo/*` can be given.

    Returns:
        The run folders, and the paths that are none.

    Raises:
        UserError: A path does not exist, or there is no run folder among them.
    """
    found: dict[Path, RunFolder] = {}
    others: list[Path] = []
    for path in map(Path, given):
        if not path.exists():
            raise UserError(f"there is no {path}; give the folders that `distill fit` wrote, such as runs/demo/*")
        folder = RunFolder(path if path.name not in ("", "..") else path.resolve())  # a run is called as its folder
        if folder.state is RunState.SEVERAL_SEEDS:
            each = [RunFolder(recipe.parent) for recipe in folder.path.glob(f"seed*/{folder.recipe.name}")]
            each.sort(key=lambda seed: (len(seed.name), seed.name))  # seed2 before seed10
        else:
            each = [folder] if folder.recipe.is_file() else []
        if not each:
            others.append(path)
        for one in each:
            found.setdefault(one.path.resolve(), one)
    if not found:
        named = ", ".join(map(str, others)) or "nothing"
        raise UserError(f"no run folder is given, but {named}; give the folders that `distill fit` wrote")
    return list(found.values()), others
