"""`distill fit|validate|test RECIPE [--key value]`: looks at the words first, then imports what runs the recipe."""

from importlib import import_module

from distill.errors import UserError
from distill.recipe.check import check
from distill.recipe.find import split
from distill.recipe.help import help_text
from distill.recipe.overrides import expand
from distill.runs.moved import moved_paths, words_for


def run(words: list[str]) -> None:
    """Runs `distill fit|validate|test RECIPE [--key value]`.

    Raises:
        UserError: Anything the user can mend.
    """
    stage, *rest = words
    recipe, overrides = split(rest)
    if recipe is None:
        if {"-h", "--help"} & set(rest):
            print(help_text(stage))
            return
        if "--help-all" not in rest:
            raise UserError(
                f"`distill {stage}` needs a recipe; `distill recipes` lists those that come with the package"
            )
    elif {"-h", "--help"} & set(overrides):
        print(help_text(stage, recipe, expand([word for word in overrides if word not in ("-h", "--help")])))
        return
    elif "--help-all" not in overrides:
        shown = any(word.startswith("--print_config") for word in overrides)
        check(stage, recipe, expand([*words_for(moved_paths(recipe)), *overrides]), complete=not shown)
    if "--help-all" in rest:
        words = [stage, *rest[: rest.index("--help-all")], "--help"]
    import_module("distill.launch.run").run(words)
