"""`distill.fit`, `distill.validate` and `distill.test`: the command line's verbs as Python functions."""

import json
import logging
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from os import PathLike, fspath
from typing import Any

from distill.errors import UserError
from distill.launch.fit import Fitted, fit_one
from distill.launch.parse import ParsedRecipe
from distill.launch.process import contained
from distill.launch.score import Scores, score_one
from distill.launch.seeds import fit_seeds, score_seeds
from distill.recipe.check import GROUPS, check
from distill.recipe.command_line import merged, overridden
from distill.recipe.find import require_run
from distill.runs.folder import RunFolder
from distill.runs.missing_paths import require_paths
from distill.runs.moved import moved_paths, words_for

logger = logging.getLogger(__name__)

_One = str | PathLike[str] | Mapping[str, Any]
RecipeLike = _One | Sequence[_One]


def fit(recipe: RecipeLike, **overrides: Any) -> RunFolder:
    """Trains what a recipe describes, as `distill fit` does: distils a student, or fine-tunes it under a head.

    Progress is shown on a terminal, in a notebook (with ipywidgets as a bar, else as lines) and in a log. In a script,
    call it below `if __name__ == "__main__":`, because data loaders may start processes that import the script. Random
    generators are left as the run left them; nothing else of the process is changed.

    Args:
        recipe: A recipe file, the name of a recipe that comes with the package, a run folder, or the content of a
            recipe as nested mappings, which needs `run.dir`. Of several in a list, such as a method, a data set and a
            size, later ones go over earlier ones.
        **overrides: Keys of the recipe with dots, as on the command line, or whole groups:
            `distill.fit("rs4d_small", **{"trainer.max_steps": 10, "data.root": "images"})` and
            `distill.fit("rs4d_small", trainer={"max_steps": 10}, data={"root": "images"})` are the same. Of a group,
            only the keys that are given change. `ckpt_path="last"` resumes an interrupted run.

    Returns:
        The run folder: `run.student` is the exported student, `run.read_summary()` has facts and last metrics.

    Raises:
        UserError: Bad input, in one line: what was given, what is allowed, and how to fix it.
        Stopped: The user stopped the run; the message says how to resume it.

    Examples:
        >>> run = distill.fit("recipes/rs4d_small.yaml", data={"root": "images"}, run={"dir": "runs/mine"})
        >>> distill.validate(run)["val/l1_ratio"]
        >>> distill.fit(["finetune/mask_rcnn", "data/nwpu"], **{"model.student": run.student})
    """
    parsed = python_recipe("fit", recipe, overrides)
    require_paths(parsed.recipe, parsed.words)
    start_fit(parsed)
    return parsed.folder


def validate(run: RecipeLike, **overrides: Any) -> Scores:
    """Scores a run on its validation images, as `distill validate` does, and stores the scores in its folder.

    Args:
        run: The run that `fit` returned, a run folder, or the recipe that it was fitted from.
        **overrides: See `fit`. `ckpt_path` is "last", "best" or a file; by default "last".

    Returns:
        Scores by metric, for example "val/mask/AP", as fractions; NaN where one is not defined. Of a run of several
        seeds, their means.

    Raises:
        UserError: See `fit`; also a run without a checkpoint.
        Stopped: The user stopped it.
    """
    return start_scoring(python_recipe("validate", run, overrides))


def test(run: RecipeLike, **overrides: Any) -> Scores:
    """Scores a run on its test images, as `distill test` does, and stores scores and predictions in its folder.

    Args:
        run: See `validate`.
        **overrides: See `validate`.

    Returns:
        Scores by metric, for example "test/mask/AP" or "test/mIoU"; see `validate`.

    Raises:
        UserError: See `validate`; also a distillation, which has no test images.
        Stopped: The user stopped it.
    """
    return start_scoring(python_recipe("test", run, overrides))


def start_fit(recipe: ParsedRecipe) -> list[Fitted]:
    """Fits what a parsed recipe describes: one run, or one for each of its seeds.

    Returns:
        The runs that were trained just now; none in a process that is not the one that reports.

    Raises:
        UserError: See `fit`.
        Stopped: See `fit`.
    """
    with contained(), recipe.explained():
        if recipe.settings.seeds is not None:
            return fit_seeds(recipe)
        fitted = fit_one(recipe)
        return [] if fitted is None else [fitted]


def start_scoring(recipe: ParsedRecipe) -> Scores:
    """Scores what a parsed recipe describes: one run, or that of each of its seeds.

    Raises:
        UserError: See `validate`.
        Stopped: See `validate`.
    """
    with contained(), recipe.explained():
        return score_one(recipe) if recipe.settings.seeds is None else score_seeds(recipe)


def python_recipe(stage: str, recipe: RecipeLike, overrides: Mapping[str, Any]) -> ParsedRecipe:
    """The recipe that a caller in Python gave, checked and parsed.

    Args:
        stage: "fit", "validate" or "test".
        recipe: See `fit`.
        overrides: See `fit`.

    Raises:
        UserError: A key, a class or a value that cannot be.
    """
    given = plain_recipes(recipe)
    if stage != "fit" and given and isinstance(given[0], str):
        require_run(given[0])
    with contained():
        found, words = overridden(given, as_words(overrides))
        for note in found.notes:
            logger.warning("%s", note)
        check(stage, found, [*words_for(moved_paths(found.path)), *words])
        if not any(isinstance(one, str) for one in given) and not (merged(found, words).get("run") or {}).get("dir"):
            raise UserError("a recipe that is given as a mapping has no name for its folder; set run.dir")
        return ParsedRecipe(stage, found, words)


def plain_recipes(recipe: RecipeLike) -> list[str | dict[str, Any]]:
    """Recipes as paths and names, and as content of what YAML has."""
    each: Sequence[_One] = [recipe] if isinstance(recipe, str | PathLike | Mapping) else recipe
    return [_plain(one) if isinstance(one, Mapping) else fspath(one) for one in each]


def as_words(overrides: Mapping[str, Any]) -> list[str]:
    """Overrides as the command line has them; a group of the recipe is taken key by key."""
    words = []
    for key, value in overrides.items():
        if key in GROUPS and isinstance(value, Mapping) and "class_path" not in value:
            words += as_words({f"{key}.{name}": each for name, each in value.items()})
        elif isinstance(value, Mapping):
            words.append(f"--config={json.dumps({key: value}, default=_standard)}")
        else:
            words.append(f"--{key}={_text(value)}")
    return words


def _plain(content: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe of what YAML has: paths as texts, tuples as lists."""
    plain: dict[str, Any] = json.loads(json.dumps(content, default=_standard))
    return plain


def _standard(value: object) -> int | float | str:
    """What JSON has in place of a number of NumPy, or of a path."""
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else str(value)


def _text(value: Any) -> str:
    if isinstance(value, str | PathLike):
        return str(value)
    listed = list(value) if isinstance(value, Sequence) else value
    return json.dumps(listed, default=_standard)
