"""`distill mmdet-config RECIPE [RECIPE ...] [--output FILE.py] [--key value]`: a recipe as an MMDetection config.

What MMDetection cannot express is refused, never dropped: the file either describes the recipe's run or is not written.
Splits that no annotation file holds, such as `val_fraction`, or none as MMDetection reads it, are written beside it.
"""

from pathlib import Path

from distill.cli.parser import VerbParser
from distill.errors import UserError
from distill.recipe.check import check
from distill.recipe.command_line import split
from distill.recipe.find import RUN_RECIPE
from distill.runs.moved import moved_paths, words_for


def run(words: list[str]) -> None:
    """Runs `distill mmdet-config RECIPE [RECIPE ...] [--output FILE.py] [--key value]`.

    Raises:
        UserError: Anything that `distill fit` refuses, or a recipe that MMDetection cannot follow.
    """
    arguments, rest = parser().parse_known_args(words[1:])
    recipe, overrides = split([*arguments.recipe, *rest])
    assert recipe is not None, "argparse asks for one"
    name = recipe.path.resolve().parent.name if recipe.path.name == RUN_RECIPE else recipe.path.stem
    output = arguments.output or Path(f"{name}.py")
    if output.suffix != ".py" or output.is_dir():
        raise UserError(
            f"--output is {output}; MMDetection reads configs from files in .py: name one, such as {name}.py"
        )
    check("fit", recipe, [*words_for(moved_paths(recipe.path)), *overrides])

    from distill.exporters.mmdet_config import export_mmdet_config
    from distill.launch.parse import ParsedRecipe
    from distill.launch.quiet import quiet
    from distill.tasks.instances import FineTuningModule

    with quiet():
        parsed = ParsedRecipe("fit", recipe, [*overrides, "--run.seeds=null"])  # a config is one run
        if not issubclass(parsed.task_class, FineTuningModule):
            raise UserError(
                f"{recipe} trains no head that finds instances, so there is no detector to describe; name a "
                "fine-tuning recipe"
            )
        built = parsed.build()
        built.task.build(built.data.class_names)
    export_mmdet_config(name, parsed.config, built.task, built.data, output, str(recipe))
    print(f"wrote {output}; its opening comment says how to train with it")


def parser() -> VerbParser:
    """The parser of the command line, of what is no key of a recipe."""
    whole = VerbParser("distill mmdet-config", description=__doc__, allow_abbrev=False)
    whole.add_argument("recipe", nargs="+", help="fine-tuning recipes, later over earlier, or a run folder")
    whole.add_argument("--output", type=Path, help="the file to write; by default RECIPE.py here")
    return whole
