"""Every recipe that ships parses, prints, and parses again to the same; its opening comment says how to use it."""

import re
from pathlib import Path

import pytest
import yaml

from distill.cli import main
from distill.errors import UserError
from distill.launch.parse import ParsedRecipe
from distill.recipe.combinations import COMBINATIONS
from distill.recipe.compose import compose
from distill.recipe.find import shipped

RECIPES = shipped()
# Those that run without another one, and the named combinations, in which every other recipe has its place.
WHOLE = [*COMBINATIONS, *(name for name in RECIPES if {"model", "data"} <= compose([name]).content.keys())]
WHOLE = [name for name in WHOLE if not name.startswith("size/")]


@pytest.mark.parametrize("name", WHOLE)
def test_recipe_parses_prints_and_parses_again(name: str, tmp_path: Path) -> None:
    words = ["--run.dir=somewhere", "--run.experiment=mine"]  # else the file's name
    text = ParsedRecipe.read("fit", [name, *words]).text()
    (tmp_path / "again.yaml").write_text(text)
    assert ParsedRecipe.read("fit", [str(tmp_path / "again.yaml"), *words]).text() == text


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_opens_with_purpose_command_needs(name: str) -> None:
    text = RECIPES[name].read_text()
    comment = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert f"recipes/{name}.yaml" in comment
    assert "# Needs:" in comment or name.startswith(("size/", "method/")), "these need what they are put behind"
    assert len(text.splitlines()) <= 45, "a recipe fits on one screen"


def test_no_file_names_a_folder_beside_the_checkout() -> None:
    """Recipes, documentation and docstrings are read elsewhere: paths in them are relative, or stand for the user's."""
    root = Path(__file__).resolve().parents[2]
    folders = [root / name for name in ("recipes", "docs", "distill", "students", "teachers", "heads", "benchmarks")]
    files = [file for folder in folders for suffix in ("yaml", "md", "py") for file in folder.rglob(f"*.{suffix}")]
    for file in [*files, *root.glob("*.md"), root / "Makefile"]:
        text = file.read_text(encoding="utf-8")
        # A link to a file of the checkout, as in [README](../README.md), does lead somewhere.
        up = re.findall(r"(?<!\]\()\.\./[\w./]*", text) if file.suffix != ".py" else re.findall(r"\.\./shared", text)
        assert not up, (file, up)
        assert not re.findall(r"(?<![\w.])/(?:home|root|work|Users)/\w+", text), file


@pytest.mark.parametrize("name", [name for name in COMBINATIONS if re.fullmatch("finetune/nwpu_.*_cpu", name)])
def test_mmdet_config_says_which_flag_a_cpu_recipe_lacks(
    name: str, finetune_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its auxiliary loss is unknown to MMDetection; with the flag of the message the config is written."""
    recipe, tiny = compose([name]).content, yaml.safe_load(finetune_recipe.read_text())
    recipe["data"] = tiny["data"]
    recipe["model"]["init_args"]["student"] = tiny["model"]["init_args"]["student"]
    (tmp_path / "cpu.yaml").write_text(yaml.safe_dump(recipe))
    words = ["mmdet-config", str(tmp_path / "cpu.yaml"), "--output", str(tmp_path / "config.py")]
    assert main(words) == 2
    flag = "--model.head.dense_weight 0"
    assert f"({flag})" in capsys.readouterr().err
    assert not (tmp_path / "config.py").exists()
    assert main([*words, *flag.split()]) == 0
    assert (tmp_path / "config.py").is_file()


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    text = RECIPES["demo/distill"].read_text().replace("max_steps", "max_stepz")
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UserError, match="max_stepz"):
        ParsedRecipe.read("fit", [str(tmp_path / "bad.yaml")])
