from collections.abc import Callable

import pytest
from torch import nn

from distill.parameter_groups import layer_depths, parameter_groups
from students import LALE, RS4D, TimmStudent
from tests.networks import Deep, Toy


def test_norms_biases_positions_and_state_space_parameters_are_not_decayed() -> None:
    toy = nn.Sequential(Toy())
    decayed, undecayed = parameter_groups(toy, 0.05)
    assert [id(p) for p in decayed["params"]] == [id(toy[0].linear.weight)]
    assert decayed["weight_decay"] == 0.05
    assert len(undecayed["params"]) == 5
    assert undecayed["weight_decay"] == 0


def test_frozen_parameters_are_in_no_group() -> None:
    toy = Toy()
    toy.linear.weight.requires_grad_(False)
    assert not parameter_groups(toy, 0.05)[0]["params"]


@pytest.mark.parametrize(
    ("student", "undecayed"),
    [
        (lambda: RS4D("tiny", image_size=32), {"pos_embed", "layers.0.A_log"}),
        (lambda: TimmStudent("vit_tiny_patch16_224", options={"depth": 3}), {"model.model.pos_embed"}),
        (lambda: LALE("S1"), set()),
    ],
    ids=["RS4D", "ViT", "LALE"],
)
def test_students_name_what_is_not_decayed(student: Callable[[], nn.Module], undecayed: set[str]) -> None:
    built = student()
    names = {id(parameter): name for name, parameter in built.named_parameters() if parameter.ndim > 1}
    found = {names[id(p)] for p in parameter_groups(built, 0.05)[1]["params"] if id(p) in names}
    assert found >= undecayed
    assert bool(found) == bool(undecayed)


def test_depth_grows_from_the_stem_to_the_last_block() -> None:
    deep = Deep()
    depths = dict(zip([name for name, _ in deep.named_parameters()], layer_depths(deep), strict=True))
    assert depths["position"] == depths["stem.0.weight"] == 0
    assert [depths[f"stages.0.{part}.weight"] for part in ("downsample", "blocks.0", "blocks.1")] == [1, 2, 3]
    assert [depths[f"stages.1.{part}.weight"] for part in ("downsample", "blocks.0", "blocks.1")] == [4, 5, 6]
    assert depths["norm.weight"] == 6


@pytest.mark.parametrize(
    ("student", "blocks"),
    [
        (lambda: RS4D("tiny", image_size=32), 6),
        (lambda: TimmStudent("vit_tiny_patch16_224"), 12),
        (lambda: TimmStudent("resnet18"), 8),
        (lambda: TimmStudent("efficientvit_b0"), 10),
        (lambda: TimmStudent("regnety_002"), 13),
    ],
    ids=["RS4D", "ViT", "ResNet", "EfficientViT", "RegNet"],
)
def test_students_have_their_blocks(student: Callable[[], nn.Module], blocks: int) -> None:
    depths = layer_depths(student())
    assert depths == sorted(depths)
    assert set(depths) >= set(range(blocks + 1))
