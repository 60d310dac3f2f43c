import pytest

from distill.launch.smaller import smaller_run
from distill.recipe.combinations import command
from distill.recipe.compose import compose


@pytest.mark.parametrize(
    ("name", "smaller"),
    [
        ("rs4d_small", "rs4d_tiny_cpu"),
        ("rs4d_base", "rs4d_tiny_cpu"),
        ("dinov2_to_rs4d", "rs4d_tiny_cpu"),
        ("ablation/adaptive", "rs4d_tiny_cpu"),
        ("dinov2_to_lale", "dinov2_to_lale_cpu"),
        ("sam_to_efficientvit_sam", "sam_to_efficientvit_sam_cpu"),
        ("finetune/ssdd_cascade", "finetune/ssdd_cascade_cpu"),
        ("landcover/aras400k_lale", "landcover/lale_s1_cpu"),
    ],
)
def test_a_long_run_is_told_of_its_nearest_recipe(name: str, smaller: str) -> None:
    recipe = compose([name])
    said = smaller_run(recipe.path, recipe.content)
    assert f"{command(smaller)} (distill recipes show {smaller})" in said
    assert "--trainer.max_steps" in said


def test_a_small_recipe_is_told_of_its_keys_alone() -> None:
    for given in (["rs4d_tiny_cpu"], ["rs4d_small", "size/cpu_rs4d"]):
        recipe = compose(given)
        assert "distill fit" not in smaller_run(recipe.path, recipe.content)
