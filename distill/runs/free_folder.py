"""The folder that a recipe's run is written to, and whether it is free: known before anything is imported or built."""

from collections.abc import Sequence
from pathlib import Path

from distill.recipe.command_line import merged
from distill.recipe.compose import Recipe
from distill.recipe.find import RUN_RECIPE
from distill.runs.folder import RunFolder


def run_folder(recipe: Recipe, words: Sequence[str], named: str | None) -> RunFolder:
    """The run folder of a recipe.

    Args:
        recipe: The recipe.
        words: What follows it on the command line.
        named: `run.dir`, with the overrides in place.
    """
    given = any(word.partition("=")[0] == "--run.dir" for word in words)
    if recipe.path.name == RUN_RECIPE and not given:  # a run folder, which may have been moved
        return RunFolder(recipe.path.parent)
    return RunFolder(Path(str(named)) if named else Path("runs") / recipe.path.stem)


def require_free_folder(recipe: Recipe, words: Sequence[str]) -> None:
    """Refuses to fit where a run is already.

    What resumes or replaces it, and the runs of several seeds, are left to `distill.launch.fit`.

    Args:
        recipe: The recipe.
        words: What follows it on the command line.

    Raises:
        UserError: See `RunFolder.require_fresh`.
    """
    tree = merged(recipe, words)
    settings = tree.get("run") or {}
    if not isinstance(settings, dict) or tree.get("ckpt_path") or settings.get("seeds"):
        return
    if settings.get("overwrite", False) is False:
        run_folder(recipe, words, settings.get("dir")).require_fresh(overwrite=False, resuming=False)
