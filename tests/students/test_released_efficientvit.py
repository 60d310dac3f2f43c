"""Generated state dicts in the released layout: every name is read, and the features are those of that layout."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.errors import UserError
from heads.seg_head import RELEASED, SegHead
from students import efficientvit
from students.efficientvit import EfficientViT
from students.efficientvit_sam import EfficientViTSAM
from students.released_efficientvit import split_released_efficientvit
from tests.students.released_layout import SAM, BackboneB, BackboneL, Blocks, Classifier, Segmenter, shuffle_norms

B = {
    "b0": ((8, 16, 32, 64, 128), (1, 2, 2, 2, 2), 16),
    "b1": ((16, 32, 64, 128, 256), (1, 2, 3, 3, 4), 16),
    "b2": ((24, 48, 96, 192, 384), (1, 3, 4, 4, 6), 32),
    "b3": ((32, 64, 128, 256, 512), (1, 4, 6, 6, 9), 32),
}
L = {
    "l0": ((32, 64, 128, 256, 512), (1, 1, 1, 4, 4)),
    "l1": ((32, 64, 128, 256, 512), (1, 1, 1, 6, 6)),
    "l2": ((32, 64, 128, 256, 512), (1, 2, 2, 8, 8)),
    "l3": ((64, 128, 256, 512, 1024), (1, 2, 2, 8, 8)),
    "xl0": ((32, 64, 128, 256, 512, 1024), (0, 1, 1, 2, 3, 3)),
    "xl1": ((32, 64, 128, 256, 512, 1024), (1, 2, 2, 4, 6, 6)),
}
NARROW = {"l1": ((8, 8, 16, 32, 64), (1, 1, 2, 2, 1)), "xl0": ((8, 8, 8, 16, 32, 64), (0, 1, 1, 2, 1, 1))}
SAM_DEPTH = {"l0": (4, 1), "l1": (8, 1), "l2": (12, 1), "xl0": (6, 4), "xl1": (12, 4)}
TOTAL = {  # of the released segmentation models
    "b0_cityscapes": 706_691,
    "b1_cityscapes": 4_803_443,
    "b2_cityscapes": 15_323_779,
    "b3_cityscapes": 39_603_155,
    "l1_cityscapes": 40_242_227,
    "l2_cityscapes": 52_607_923,
    "b1_ade20k": 4_791_414,
    "b2_ade20k": 15_293_382,
    "b3_ade20k": 39_546_198,
    "l1_ade20k": 40_409_526,
    "l2_ade20k": 51_462_454,
}


def released(variant: str, eps: float | None = None) -> nn.Module:
    if variant in B:
        return BackboneB(*B[variant], eps or 1e-5)
    return BackboneL(*L[variant], eps or 1e-7)


def images(height: int = 64, width: int = 64) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def save(module: nn.Module, path: Path) -> str:
    torch.save({"state_dict": module.state_dict()}, path)
    return str(path)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """L1 and XL0 with few channels, in the student and in the released layout."""
    for name, (widths, depths) in NARROW.items():
        variant = efficientvit._VARIANTS[name]
        monkeypatch.setitem(efficientvit._VARIANTS, name, replace(variant, widths=widths, blocks=depths))
        monkeypatch.setitem(L, name, (widths, depths))


@pytest.mark.parametrize("variant", [*B, *L])
def test_every_name_and_shape_of_a_backbone(variant: str) -> None:
    with torch.device("meta"):
        model = nn.ModuleDict({"backbone": released(variant)})
        student = EfficientViT(variant)
    parts = split_released_efficientvit(model.state_dict())
    assert parts.keys() == {"backbone"}
    assert {name: tensor.shape for name, tensor in parts["backbone"].items()} == shapes(student)


@pytest.mark.parametrize("variant", SAM_DEPTH)
def test_every_name_and_shape_of_sam(variant: str) -> None:
    with torch.device("meta"):
        model = SAM(released(variant), list(L[variant][0][-3:]), *SAM_DEPTH[variant])
        student = EfficientViTSAM(variant)
    parts = split_released_efficientvit(model.state_dict())
    assert parts.keys() == {"backbone", "sam"}
    names = {f"backbone.{name}": tensor.shape for name, tensor in parts["backbone"].items()}
    assert names | {name: tensor.shape for name, tensor in parts["sam"].items()} == shapes(student)


@pytest.mark.parametrize("model", TOTAL)
def test_every_name_and_shape_of_segmentation(model: str) -> None:
    with torch.device("meta"):
        theirs = segmenter(model)
        student = EfficientViT(model[:2], [1, 2, 3])
        head = SegHead(student.feature_info, class_names(model), **RELEASED[model])
    assert sum(p.numel() for p in theirs.parameters()) == TOTAL[model]
    parts = split_released_efficientvit(theirs.state_dict())
    assert parts.keys() == {"backbone", "segmentation"}
    assert {name: tensor.shape for name, tensor in parts["segmentation"].items()} == shapes(head)
    assert sum(p.numel() for part in (student, head) for p in part.parameters()) == TOTAL[model]


@pytest.mark.parametrize("variant", ["b0", "b3", "l2"])
def test_classifier_loads_into_timm(variant: str) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(f"efficientvit_{variant}")
        model = Classifier(released(variant), theirs.num_features, tuple(theirs.head.widths), blocks(variant))
    parts = split_released_efficientvit(model.state_dict())
    assert parts.keys() == {"backbone", "classifier"}
    renamed = {name: tensor.shape for part in parts.values() for name, tensor in part.items()}
    assert renamed == shapes(theirs)


def blocks(variant: str, eps: float | None = None) -> Blocks:
    act: Callable[[Tensor], Tensor] = F.hardswish if variant in B else lambda x: F.gelu(x, approximate="tanh")
    return Blocks(act, eps or (1e-5 if variant in B else 1e-7))


def class_names(model: str) -> list[str]:
    return [str(index) for index in range(19 if model.endswith("cityscapes") else 150)]


def segmenter(model: str) -> Segmenter:
    variant, settings = model[:2], RELEASED[model]
    keys = ("width", "depth", "block", "expand", "final_expand")
    widths = (B.get(variant) or L[variant])[0]
    arguments = [settings[key] for key in keys]
    return Segmenter(released(variant), widths[2:], len(class_names(model)), *arguments, blocks(variant))


@pytest.mark.parametrize("variant", ["b0", "l1", "xl0"])
@pytest.mark.parametrize("size", [(64, 64), (33, 70), (192, 160)])
@pytest.mark.usefixtures("narrow")
def test_backbone_gives_the_released_features(tmp_path: Path, variant: str, size: tuple[int, int]) -> None:
    """Small maps run the released quadratic form, large ones its linear form."""
    torch.manual_seed(0)
    eps = 1e-6 if variant == "xl0" else None
    model = shuffle_norms(nn.ModuleDict({"backbone": released(variant, eps)}))
    student = EfficientViT(variant, checkpoint=save(model, tmp_path / "released.pt")).eval()
    for one, other in zip(student(images(*size)), model["backbone"](images(*size)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=4e-6)


@pytest.mark.parametrize("model", ["b0_cityscapes", "b1_ade20k", "l1_cityscapes", "l1_ade20k"])
@pytest.mark.usefixtures("narrow")
def test_segmentation_gives_the_released_logits(tmp_path: Path, model: str) -> None:
    torch.manual_seed(0)
    theirs = shuffle_norms(segmenter(model))
    path = save(theirs, tmp_path / "released.pt")
    student = EfficientViT(model[:2], [1, 2, 3], checkpoint=path).eval()
    part = split_released_efficientvit(theirs.state_dict())["segmentation"]
    torch.save(part, tmp_path / "head.pth")
    checkpoint = str(tmp_path / "head.pth")
    head = SegHead(student.feature_info, class_names(model), **RELEASED[model], checkpoint=checkpoint).eval()
    torch.testing.assert_close(head(student(images(64, 96))), theirs(images(64, 96)), rtol=0, atol=4e-6)


@pytest.mark.parametrize("variant", ["l1", "xl0"])
@pytest.mark.usefixtures("narrow")
def test_sam_gives_the_released_embedding(tmp_path: Path, variant: str) -> None:
    torch.manual_seed(0)
    side = 64 if variant == "l1" else 128
    backbone = BackboneL(*L[variant], eps=1e-6)
    model = shuffle_norms(SAM(backbone, list(L[variant][0][-3:]), *SAM_DEPTH[variant], grid=8))
    student = EfficientViTSAM(variant, checkpoint=save(model, tmp_path / "released.pt")).eval()
    torch.testing.assert_close(student(images(side, side))[0], model(images(side, side)), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("narrow")
def test_a_backbone_of_sam_needs_its_epsilon(tmp_path: Path) -> None:
    model = SAM(BackboneL(*L["l1"], eps=1e-6), list(L["l1"][0][-3:]), 8, 1)
    path = save(model, tmp_path / "sam.pt")
    with pytest.raises(UserError, match="set the student's norm_eps to 1e-06"):
        EfficientViT("l1", checkpoint=path)
    assert EfficientViT("l1", norm_eps=1e-6, checkpoint=path)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    path = save(nn.ModuleDict({"backbone": released("b0")}), tmp_path / "b0.pt")
    with pytest.raises(UserError, match="does not fit EfficientViT"):
        EfficientViT("b1", checkpoint=path)
    with pytest.raises(UserError, match="does not fit EfficientViTSAM"):
        EfficientViTSAM("l0", checkpoint=path)
    assert split_released_efficientvit(timm.create_model("resnet10t").state_dict()) == {}
