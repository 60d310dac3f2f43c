"""What every teacher must do: features that are what it announces, always the same, never trained.

Axes: B batch, C channels, H W pixels.
"""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import teachers
from distill.contracts import TeacherBase
from distill.errors import UserError
from tests.contract.cases import TEACHERS, Case, build_teacher, distance

SIZES = [(64, 80), (50, 71), (33, 16), (1, 1)]
ODD = (50, 37)


def pixels(height: int = 64, width: int = 64, batch: int = 2) -> Tensor:
    """RGB in [0, 1], always the same."""
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=TEACHERS)
def case(request: pytest.FixtureRequest) -> Case:
    return TEACHERS[request.param]


@pytest.fixture
def teacher(case: Case, tmp_path: Path) -> TeacherBase:
    return build_teacher(case, tmp_path)


def assert_close(features: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(features) == list(expected)
    for name, feature in features.items():
        torch.testing.assert_close(feature, expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_features_are_what_it_announces(teacher: TeacherBase, size: tuple[int, int]) -> None:
    """At any size; grids round up."""
    assert isinstance(teacher, TeacherBase)
    features = teacher(pixels(*size))
    assert {name: tuple(feature.shape) for name, feature in features.items()} == {
        name: (2, channels, -(-size[0] // teacher.reduction[name]), -(-size[1] // teacher.reduction[name]))
        for name, channels in teacher.channels.items()
    }
    assert all(feature.dtype == torch.float32 and feature.isfinite().all() for feature in features.values())


def test_never_trains(teacher: TeacherBase) -> None:
    parent = nn.Sequential(teacher).train()
    assert parent.training
    assert not any(part.training for part in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_is_a_constant_in_the_graph(teacher: TeacherBase) -> None:
    inputs, weight = pixels().requires_grad_(), torch.ones((), requires_grad=True)
    for feature in teacher(inputs).values():
        assert not feature.requires_grad
        assert not feature.is_inference()
        (weight * feature).sum().backward()
    assert weight.grad is not None
    assert inputs.grad is None


def test_is_shared_by_deep_copies(teacher: TeacherBase) -> None:
    parent = nn.Sequential(teacher, nn.Linear(1, 1))
    twin = copy.deepcopy(parent)
    assert twin[0] is teacher
    assert twin[1] is not parent[1]


def test_repeats_itself_and_changes_nothing(teacher: TeacherBase) -> None:
    before = teacher.digest
    first, second = teacher(pixels()), teacher(pixels())
    assert all(torch.equal(first[name], second[name]) for name in first)
    del teacher.digest  # computed once
    assert teacher.digest == before


def test_building_leaves_random_numbers_alone(case: Case, tmp_path: Path) -> None:
    build_teacher(case, tmp_path, seed=0)  # writes its weights
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    checkpoint = {"checkpoint": str(tmp_path / "0.pth")} if (tmp_path / "0.pth").exists() else {}
    getattr(teachers, case.name)(**case.arguments, **checkpoint)
    assert torch.equal(torch.rand(3), expected)


def test_the_digest_names_the_weights(case: Case, tmp_path: Path) -> None:
    first, again, other = (build_teacher(case, tmp_path, seed) for seed in (0, 0, 1))
    assert first.digest == again.digest != other.digest
    assert not torch.equal(first(pixels())[next(iter(first.channels))], other(pixels())[next(iter(other.channels))])
    other.load_state_dict(first.state_dict(), strict=True)
    assert_close(other(pixels()), first(pixels()))
    del other.digest
    assert other.digest == first.digest


@pytest.mark.parametrize("prefix", ["teacher.", "module.teacher.backbone.", "_orig_mod.", "model."])
@pytest.mark.parametrize("name", ["CNN", "SAM", "ViT"])  # a Segmenter reads whole training states
def test_weights_are_found_under_prefixes(name: str, prefix: str, tmp_path: Path) -> None:
    """Beside a head, and a network of another width."""
    first = build_teacher(TEACHERS[name], tmp_path)
    content = torch.load(tmp_path / "0.pth", weights_only=True)
    moved = {f"{prefix}{key}": tensor for key, tensor in content.items()}
    if prefix.count(".") > 1:
        moved |= {"module.teacher.head.weight": torch.zeros(3, 3), "module.student.layer.weight": torch.zeros(3, 3)}
    torch.save({"state_dict": moved, "epoch": 3}, tmp_path / "moved.pth")
    again = getattr(teachers, name)(**TEACHERS[name].arguments, checkpoint=str(tmp_path / "moved.pth"))
    assert again.digest == first.digest
    torch.save(moved | {f"other.{key}": tensor + 1 for key, tensor in content.items()}, tmp_path / "two.pth")
    with pytest.raises(UserError, match=r"holds this network 2 times, under '|names are unknown") as caught:
        getattr(teachers, name)(**TEACHERS[name].arguments, checkpoint=str(tmp_path / "two.pth"))
    assert "\n" not in str(caught.value)


def test_bfloat16_autocast(teacher: TeacherBase) -> None:
    expected = teacher(pixels())
    with torch.autocast("cpu", torch.bfloat16):
        features = teacher(pixels())
    for name, feature in features.items():
        assert feature.isfinite().all()
        assert distance(feature, expected[name]) < 0.05


def test_compiles_in_one_graph(teacher: TeacherBase) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(teacher, backend="aot_eager", fullgraph=True)
    assert_close(compiled(pixels(*ODD)), teacher(pixels(*ODD)))


def test_channels_last(teacher: TeacherBase) -> None:
    expected = teacher(pixels(*ODD))
    assert_close(teacher(pixels(*ODD).contiguous(memory_format=torch.channels_last)), expected)


def test_images_of_a_batch_do_not_see_each_other(teacher: TeacherBase) -> None:
    both = teacher(pixels(*ODD))
    for index in range(2):
        alone = teacher(pixels(*ODD)[index : index + 1])
        assert_close({name: feature[index : index + 1] for name, feature in both.items()}, alone)


@pytest.mark.parametrize(
    "images",
    [torch.rand(1, 4, 64, 64), torch.rand(3, 64, 64), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)],
    ids=["four bands", "no batch", "bytes"],
)
def test_refuses_anything_but_float_rgb(teacher: TeacherBase, images: Tensor) -> None:
    with pytest.raises(UserError, match=r"takes float RGB images in \[0, 1\]"):
        teacher(images)
