"""What is read from the sources is what the parser finds by importing them."""

from argparse import ArgumentError
from importlib import import_module

import pytest
from jsonargparse import ArgumentParser

from distill.recipe.check import RUN, TRAINER, check
from distill.recipe.combinations import COMBINATIONS
from distill.recipe.compose import compose
from distill.recipe.find import shipped
from distill.recipe.signatures import OWN, Type, class_names, descriptions, parameters

PUBLIC = [
    f"{module}.{name}" for module in ("distill.data", *OWN) for name in class_names(module) or () if name != "Stopped"
]


@pytest.mark.parametrize(
    "path",
    [*PUBLIC, RUN, TRAINER, "distill.training.optim.OptimSettings", "distill.tasks.losses.features.LossSettings"],
)
def test_names_are_those_of_the_parser(path: str) -> None:
    module, _, name = path.rpartition(".")
    parser = ArgumentParser(exit_on_error=False)
    names = parser.add_class_arguments(getattr(import_module(module), name), fail_untyped=False)
    found = parameters(path)
    assert found is not None
    assert list(found) == names
    needed = [name for name, parameter in found.items() if parameter.default is None]
    if needed:
        with pytest.raises(ArgumentError, match=f"are required: {', '.join(needed)}$"):
            parser.parse_args([])
    if path.startswith(OWN):  # Lightning describes two of its own nowhere
        assert all(parameter.description for parameter in found.values()), path


@pytest.mark.parametrize("name", [*shipped(), *COMBINATIONS])
def test_recipes_of_the_package_pass(name: str) -> None:
    recipe = compose([name])
    assert recipe.content.keys() <= {"seed_everything", "model", "data", "trainer", "run"}
    whole = {"model", "data"} <= recipe.content.keys() and "class_path" in recipe.content["model"]
    assert whole or name.startswith(("data/", "head/", "size/", "method/", "finetune/", "landcover/"))
    check("fit", recipe, [], complete=whole)


def test_types_are_resolved() -> None:
    head = (parameters("teachers.Segmenter") or {})["head"]
    assert head.types == (Type("component", supplied=2),)
    assert (parameters("distill.FineTuningModule") or {})["head"].types == head.types  # by the name of the type
    part = (parameters("distill.data.SemanticFolder") or {})["train"]
    assert part.types == (Type("str"), Type("list", items=((Type("str"),),)))
    optim = (parameters("distill.FineTuningModule") or {})["optim"]
    assert optim.types == (Type("settings", settings="distill.training.optim.OptimSettings"), Type("None"))
    assert parameters("distill.Nothing") is None
    assert class_names("distill.nothing") is None


def test_descriptions_end_where_the_arguments_do() -> None:
    text = "What it is.\n\nArgs:\n    one: First\n        and on.\n    two (int): Second: all.\n\nRaises:\n    E: No.\n"
    assert descriptions(text) == {"one": "First and on.", "two": "Second: all."}
