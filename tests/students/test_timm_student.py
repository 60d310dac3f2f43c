"""timm's weights as a student's, and their way back; what every student does is in tests/contract."""

from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional as F

from distill.errors import UserError
from students import TimmStudent

VIT = {"img_size": 64, "patch_size": 16, "depth": 3, "dynamic_img_size": True}
MODELS = [("resnet10t", {}), ("convnext_atto", {}), ("vit_tiny_patch16_224", VIT)]


def build(name: str, options: dict[str, object], **arguments: object) -> TimmStudent:
    torch.manual_seed(0)
    return TimmStudent(name, options=options, **arguments).eval()  # type: ignore[arg-type]


def test_statistics_are_the_models_own() -> None:
    assert build("vit_tiny_patch16_224", VIT).mean == (0.5, 0.5, 0.5)
    assert build("resnet10t", {}).std == (0.229, 0.224, 0.225)


def test_out_indices() -> None:
    student = build("vit_tiny_patch16_224", VIT, out_indices=[0, 2])
    assert len(student(torch.randn(1, 3, 64, 64))) == 2


@pytest.mark.parametrize(("name", "options"), MODELS)
def test_weights_of_the_timm_model_load(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    torch.manual_seed(1)
    full = timm.create_model(name, **options).eval()
    torch.save(full.state_dict(), tmp_path / "timm.pth")
    student = build(name, options, checkpoint=str(tmp_path / "timm.pth"))
    images = torch.randn(1, 3, 64, 64)
    expected = full.forward_intermediates(images, intermediates_only=True)
    torch.testing.assert_close(student(images)[-1], expected[-1])


def test_a_transformer_returns_to_timm_by_removing_the_prefix() -> None:
    """So a ViT trained here can teach."""
    student = build("vit_tiny_patch16_224", VIT)
    weights = {name.removeprefix(student.weights_prefix): tensor for name, tensor in student.state_dict().items()}
    model = timm.create_model("vit_tiny_patch16_224", **VIT).eval()
    report = model.load_state_dict(weights, strict=False)
    assert report.unexpected_keys == []
    assert {key.split(".")[0] for key in report.missing_keys} == {"norm", "head"}
    images = torch.randn(1, 3, 64, 64)
    expected = model.forward_intermediates(images, indices=3, intermediates_only=True)
    for one, other in zip(student(images), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_transformer_pads_images_to_whole_patches() -> None:
    student = build("vit_tiny_patch16_224", VIT)
    images = torch.randn(1, 3, 70, 33)
    padded = F.pad(images, (0, 48 - 33, 0, 80 - 70))
    for one, other in zip(student(images), student(padded), strict=True):
        assert one.shape[-2:] == (5, 3)
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "stride"),
    [
        ("vit_tiny_patch16_224", 16),
        ("vit_tiny_patch16_224_in21k", 16),
        ("deit_tiny_distilled_patch16_224", 16),
        ("vit_tiny_r_s16_p8_224", 32),
        ("vitamin_small_224", 16),
    ],
)
def test_a_transformer_takes_any_size_and_is_else_as_timm_builds_it(name: str, stride: int) -> None:
    student, fixed = (build(name, {"depth": 3} | more) for more in ({}, {"dynamic_img_size": False}))
    own = torch.randn(1, 3, 224, 224)
    assert student.state_dict().keys() == fixed.state_dict().keys()
    for one, other in zip(student(own), fixed(own), strict=True):
        assert torch.equal(one, other)
    assert student(torch.randn(1, 3, 96, 150))[-1].shape[-2:] == (96 // stride, 160 // stride)
    with pytest.raises((UserError, RuntimeError), match="match"):
        fixed(torch.randn(1, 3, 96, 160))


def test_a_transformer_after_convolutions_cannot_leave_out_patches() -> None:
    """Its tokens are of their surroundings, too: what masked autoencoding hides would be seen."""
    student = build("vit_tiny_r_s16_p8_224", {"depth": 3})
    with pytest.raises(UserError, match="cannot leave out patches"):
        student.forward_visible(torch.randn(1, 3, 64, 64), torch.tensor([[0]]))


def gradients(student: TimmStudent) -> tuple[list[Tensor], list[Tensor], int]:
    """Maps, gradients, and the bytes that autograd keeps for them."""
    kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    torch.manual_seed(2)  # of drop paths
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        maps = student.train()(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    torch.stack([feature.square().mean() for feature in maps]).sum().backward()
    return maps, [parameter.grad for parameter in student.parameters() if parameter.grad is not None], kept


@pytest.mark.parametrize(("name", "options"), [MODELS[1], ("vit_tiny_patch16_224", VIT | {"drop_path_rate": 0.5})])
def test_checkpointing_changes_memory_alone(name: str, options: dict[str, object]) -> None:
    plain, lean = (gradients(build(name, options, checkpointing=on)) for on in (False, True))
    for one, other in zip([*plain[0], *plain[1]], [*lean[0], *lean[1]], strict=True):
        torch.testing.assert_close(one, other)
    assert lean[2] < 0.8 * plain[2]


def test_a_model_without_checkpointing() -> None:
    with pytest.raises(UserError, match="timm has no gradient checkpointing for 'hrnet_w18_small'"):
        build("hrnet_w18_small", {}, checkpointing=True)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "timm.pth")
    with pytest.raises(UserError, match="does not fit TimmStudent"):
        build("resnet14t", {}, checkpoint=str(tmp_path / "timm.pth"))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("resnet10tt", {}, "did you mean resnet10t"),
        ("resnet10t", {"depht": 3}, "timm refuses to build 'resnet10t'"),
        ("resnet10t", {"checkpoint_path": "missing.pth"}, "timm refuses to build 'resnet10t'"),
        ("resnet10t", {"in_chans": 4}, "in_chans 4, and a student gets red, green and blue"),
        ("vit_tiny_patch16_224", {"num_heads": 0}, r"options \{'num_heads': 0\} \(integer .*by zero\)"),
    ],
)
def test_bad_arguments(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        build(name, options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("levels", [[4, 1], [-1, 1], [2, 2], []])
def test_levels_in_another_order_than_that_of_the_maps(levels: list[int]) -> None:
    with pytest.raises(UserError, match=r"out_indices is .*; 'resnet10t' allows growing numbers from 0 to 4"):
        build("resnet10t", {}, out_indices=levels)


def test_levels_counted_from_the_end() -> None:
    student = build("resnet10t", {}, out_indices=[1, -1])
    expected = list(student.feature_info.channels())
    assert [x.shape[1] for x in student(torch.randn(1, 3, 64, 64))] == expected == [64, 512]


@pytest.mark.parametrize(
    "options", [{"name": "mambaout_femto"}, {"name": "swin_tiny_patch4_window7_224", "img_size": 64, "window_size": 2}]
)
def test_models_with_channels_last_return_them_first(options: dict[str, object]) -> None:
    name, *others = options.items()
    student = build(str(name[1]), dict(others))
    maps, info = student(torch.randn(1, 3, 64, 64)), student.feature_info
    expected = [(1, c, 64 // s, 64 // s) for c, s in zip(info.channels(), info.reduction(), strict=True)]
    assert [tuple(x.shape) for x in maps] == expected


def test_a_size_that_the_model_does_not_take() -> None:
    student = build("vit_tiny_patch16_224", VIT | {"dynamic_img_size": False})
    with pytest.raises(UserError, match=r"'vit_tiny_patch16_224' does not take images of 96 x 32 px \(Input height"):
        student(torch.randn(1, 3, 32, 96))
    with pytest.raises(UserError, match=r"'levit_128' does not take images of 96 x 96 px \(The size of tensor"):
        build("levit_128", {})(torch.randn(1, 3, 96, 96))
