"""`null` on the command line is the null of YAML, however deep the key."""

from pathlib import Path

import pytest
import yaml

from distill.launch.parse import ParsedRecipe
from distill.recipe.overrides import keep_nulls


@pytest.mark.parametrize(
    "words",
    [
        ["--model.student.checkpoint=null"],
        ["--model.student.checkpoint", "null"],
        ["--model.student.checkpoint=~", "--model.student.frozen_layers=1"],
        ["--model.student.init_args.checkpoint=null"],
        ["--model.student.checkpoint=b.pth", "--model.student.checkpoint=null"],
        ["--model.student.out_indices=null", "--model.student.checkpoint=null"],
    ],
)
def test_null_reaches_a_nested_key(finetune_recipe: Path, words: list[str]) -> None:
    recipe = yaml.safe_load(finetune_recipe.read_text())
    recipe["model"]["init_args"]["student"]["init_args"] |= {"checkpoint": "a.pth", "out_indices": [1]}
    finetune_recipe.write_text(yaml.safe_dump(recipe))
    student = ParsedRecipe.read("fit", [str(finetune_recipe), *words]).config.model.init_args.student.init_args
    assert student.checkpoint is None
    assert (student.variant, student.patch_size) == ("tiny", 8)
    assert student.frozen_layers == int("frozen" in words[-1])
    assert student.out_indices == (None if "out_indices" in words[0] else [1])


def test_other_words_stay() -> None:
    words = ["fit", "r.yaml", "--data.seed=null", "--run.dir", "null", "--model.student.name=nullable", "--a.b.c", "1"]
    assert keep_nulls(words) == words
    assert keep_nulls(["--a.b.c"]) == ["--a.b.c"]
    later = keep_nulls(["--a.b.c=null", "--a.b.c=1"])
    assert later == ['--config={"a.b.c": null}', "--a.b.c=1"]
