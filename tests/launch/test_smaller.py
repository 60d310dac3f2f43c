import pytest
import yaml

from distill.launch.smaller import smaller_run
from distill.recipe.find import shipped


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
    path = shipped()[name]
    said = smaller_run(path, yaml.safe_load(path.read_text()))
    assert f"distill fit recipes/{smaller}.yaml " in said
    assert "--trainer.max_steps" in said


def test_a_small_recipe_is_told_of_its_keys_alone() -> None:
    path = shipped()["rs4d_tiny_cpu"]
    assert "distill fit" not in smaller_run(path, yaml.safe_load(path.read_text()))
