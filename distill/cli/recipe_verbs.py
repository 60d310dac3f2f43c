"""`distill fit|validate|test RECIPE [--key value]`: checks the arguments, then imports what runs the recipe."""

import sys
from typing import TYPE_CHECKING

from distill.errors import UserError
from distill.recipe.check import check
from distill.recipe.command_line import split
from distill.recipe.find import require_run
from distill.recipe.help import help_text
from distill.runs.free_folder import require_free_folder
from distill.runs.missing_paths import require_paths
from distill.runs.moved import moved_paths, words_for

if TYPE_CHECKING:
    from distill.launch.parse import ParsedRecipe
    from distill.recipe.compose import Recipe

_HELP, _HELP_ALL = ("-h", "--help"), "--help-all"


def run(words: list[str]) -> None:
    """Runs `distill fit|validate|test RECIPE [RECIPE ...] [--key value]`.

    Raises:
        UserError: Anything the user can fix.
    """
    stage, *rest = words
    asked = {_HELP_ALL, *_HELP} & set(rest)
    if stage != "fit" and rest and not rest[0].startswith("-"):
        require_run(rest[0])
    recipe, overrides = split([word for word in rest if word not in asked])
    if asked:
        print(help_text(stage, recipe, overrides, _HELP_ALL in asked))
    elif recipe is None and stage != "fit":
        raise UserError(f"`distill {stage}` needs a run; pass the folder that `distill fit` wrote")
    elif recipe is None:
        raise UserError(
            f"`distill {stage}` needs a recipe; `distill recipes list` lists those that come with the package"
        )
    else:
        shown = any(word.startswith("--print_config") for word in overrides)
        for note in recipe.notes:
            print(f"distill: {note}", file=sys.stderr)
        check(stage, recipe, [*words_for(moved_paths(recipe.path)), *overrides], complete=not shown)
        if stage == "fit" and not shown:
            require_free_folder(recipe, overrides)
            require_paths(recipe, overrides)
        _start(_parsed(stage, recipe, overrides))


def _parsed(stage: str, recipe: "Recipe", overrides: list[str]) -> "ParsedRecipe":
    from distill.launch.parse import ParsedRecipe
    from distill.launch.quiet import quiet

    with quiet():
        return ParsedRecipe(stage, recipe, overrides)


def _start(recipe: "ParsedRecipe") -> None:
    from distill.launch.api import start_fit, start_scoring
    from distill.launch.next_steps import print_next_steps

    if recipe.stage != "fit":
        start_scoring(recipe)
        return
    for fitted in start_fit(recipe)[:1]:  # of several seeds, what follows the first follows each
        print_next_steps(fitted)
