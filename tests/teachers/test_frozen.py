import copy
from pathlib import Path

import pytest
import torch

from distill.contracts import Teacher
from distill.errors import UserError
from teachers import ViT

NAME = "vit_tiny_patch16_224"  # mean and std 0.5
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def teacher(tiny_checkpoint: Path, tiny: dict[str, int]) -> ViT:
    return ViT(NAME, str(tiny_checkpoint), blocks=[1], options=tiny)


def test_fulfils_the_contract(teacher: ViT) -> None:
    assert isinstance(teacher, Teacher)
    maps = teacher(torch.rand(2, 3, 64, 80))
    assert {name: x.shape[1] for name, x in maps.items()} == teacher.channels
    assert all(
        x.shape[-2:] == (64 // teacher.reduction[name], 80 // teacher.reduction[name]) for name, x in maps.items()
    )


def test_never_trains(teacher: ViT) -> None:
    parent = torch.nn.Sequential(teacher).train()
    assert parent.training
    assert not any(part.training for part in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())


def test_is_a_constant_in_the_graph(teacher: ViT) -> None:
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    weight = torch.ones((), requires_grad=True)
    features = teacher(images)["embedding"]
    assert not features.requires_grad
    (weight * features).sum().backward()
    assert weight.grad == features.sum()
    assert images.grad is None


def test_normalises_with_its_own_statistics(tiny_checkpoint: Path, tiny: dict[str, int]) -> None:
    ours = ViT(NAME, str(tiny_checkpoint), options=tiny)
    other = ViT("vit_small_patch16_224.dino", str(tiny_checkpoint), options=tiny)
    assert ours.mean == ours.std == (0.5, 0.5, 0.5)
    assert (other.mean, other.std) == (IMAGENET_MEAN, IMAGENET_STD)
    images = torch.rand(1, 3, 64, 64)
    assert not torch.allclose(ours(images)["embedding"], other(images)["embedding"], atol=1e-2)
    mean, std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
    same_to_the_network = (images - 0.5) / 0.5 * std + mean
    torch.testing.assert_close(ours(images)["embedding"], other(same_to_the_network)["embedding"], atol=1e-4, rtol=1e-4)


def test_digest_names_weights_and_statistics(tmp_path: Path, tiny_checkpoint: Path, tiny: dict[str, int]) -> None:
    first, again = (ViT(NAME, str(tiny_checkpoint), options=tiny) for _ in range(2))
    assert first.digest == again.digest
    assert first.digest == ViT(NAME, str(tiny_checkpoint), blocks=[0], options=tiny).digest
    assert first.digest != ViT("vit_small_patch16_224.dino", str(tiny_checkpoint), options=tiny).digest
    state = torch.load(tiny_checkpoint)
    state["norm.bias"][0] += 1e-3
    torch.save(state, tmp_path / "changed.pth")
    assert first.digest != ViT(NAME, str(tmp_path / "changed.pth"), options=tiny).digest


def test_is_shared_by_deep_copies(teacher: ViT) -> None:
    parent = torch.nn.Sequential(teacher, torch.nn.Linear(1, 1))
    twin = copy.deepcopy(parent)
    assert twin[0] is teacher
    assert twin[1] is not parent[1]


def test_building_leaves_random_numbers_alone(tiny_checkpoint: Path, tiny: dict[str, int]) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    ViT(NAME, str(tiny_checkpoint), options=tiny)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    "images",
    [torch.rand(1, 4, 64, 64), torch.rand(3, 64, 64), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)],
    ids=["four bands", "no batch", "bytes"],
)
def test_refuses_anything_but_float_rgb(teacher: ViT, images: torch.Tensor) -> None:
    with pytest.raises(UserError, match=r"takes float RGB images in \[0, 1\]"):
        teacher(images)


@pytest.mark.parametrize("blocks", [[3], [-1], [0, 7]])
def test_refuses_blocks_that_do_not_exist(tiny_checkpoint: Path, tiny: dict[str, int], blocks: list[int]) -> None:
    with pytest.raises(UserError, match=r"has no block .*init_args\.blocks go from 0 to 2"):
        ViT(NAME, str(tiny_checkpoint), blocks=blocks, options=tiny)
