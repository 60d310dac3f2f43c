"""`distill.sweep`: a recipe with several values and seeds, from Python."""

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.launch.api import RecipeLike, as_words, plain_recipes
from distill.launch.sweep.plan import Plan
from distill.launch.sweep.run import Sweep, run_grid
from distill.launch.sweep.search import run_search
from distill.recipe.axes import read_axis
from distill.recipe.compose import compose


def sweep(
    recipe: RecipeLike,
    over: Mapping[str, str | Sequence[Any]],
    seeds: Sequence[int] = (0,),
    *,
    out: str | PathLike[str] | None = None,
    search: int | None = None,
    metric: str | None = None,
    **overrides: Any,
) -> Sweep:
    """Trains a recipe with every combination of some values, and every combination with some seeds; then one table.

    Finished runs are kept and interrupted ones are resumed, so that the same call goes on after an interruption, and
    one with further values or seeds adds to what is there. Every recipe is parsed before the first run starts. A run
    that fails is named in `failures`, the others go on, and the next call tries it again.

    Args:
        recipe: See `distill.fit`.
        over: Values by dotted key. A text is read as on the command line, "0,0.1,0.2". The key "recipe" has recipes
            that are put over the given ones. Of a search, texts such as "0.1..0.5" and "log:1e-4..1e-2" are ranges.
        seeds: Seeds of each combination; intervals need two or more.
        out: The folder; by default runs/sweep_ and the recipe's name.
        search: How many combinations are sampled from `over`, by Optuna's TPE (Bergstra et al. 2011, Algorithms for
            hyper-parameter optimization), in place of all combinations.
        metric: What a search improves on the validation images, such as "val/l1_ratio"; by default what the task
            selects checkpoints by.
        **overrides: For every run; see `distill.fit`.

    Raises:
        UserError: Bad input, before anything is trained; or a run failed, and several processes train together.
        Stopped: The user stopped it.

    Examples:
        >>> found = distill.sweep("rs4d_small", {"model.corruption.noise": [0, 0.2]}, seeds=range(3))
        >>> found.table.rows[1]["difference"]["l1_ratio"]
    """
    given = plain_recipes(recipe)
    axes = [read_axis(key, values if isinstance(values, str) else as_values(values)) for key, values in over.items()]
    plan = Plan(tuple(given), tuple(as_words(overrides)), tuple(seeds), sweep_folder(given, out))
    if search is None:
        if metric is not None:
            raise UserError(f"metric is {metric!r}, which only a search improves; give search, or leave it out")
        return run_grid(plan, axes)
    return run_search(plan, axes, search, metric)


def as_values(values: Sequence[Any]) -> list[str]:
    """Values from Python as the command line has them."""
    return [word.removeprefix("--value=") for value in values for word in as_words({"value": value})]


def sweep_folder(recipes: Sequence[str | Mapping[str, Any]], out: str | PathLike[str] | None) -> Path:
    """The folder of a sweep.

    Raises:
        UserError: Recipes that are given as mappings have no name, and no folder is given.
    """
    if out is not None:
        return Path(fspath(out))
    named = [one for one in recipes if isinstance(one, str)]
    if recipes and not named:
        raise UserError("a recipe that is given as a mapping has no name for the folder of its sweep; give out")
    return Path("runs") / (f"sweep_{compose(named).path.stem}" if named else "sweep")
