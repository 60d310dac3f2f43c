"""Every student, teacher and head as small as it comes. A component of the registries without a case fails the suite.

Cases say what a component may do that others may not, and why; everything else is demanded of all alike.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import heads
import students
import teachers
from distill.contracts import FeatureInfo
from students import efficientvit

CLASSES = ("ship", "plane", "tank")
NARROW_SAM = {"embed_dim": 32, "depth": 2, "num_heads": 2, "global_attn_indexes": (1,)}
NARROW_VIT = {"img_size": 64, "patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2}
_VIT_STUDENT = {"img_size": 64, "patch_size": 16, "depth": 3, "dynamic_img_size": True, "dynamic_img_pad": True}


@dataclass(frozen=True)
class Case:
    """A component and the arguments that make it small.

    Args:
        name: Its name in the package.
        arguments: Of the constructor.
        freezing: Further arguments that freeze a part of it; for every student that offers `frozen_...`.
        of_one_map: Beginnings of the names of parameters that one map of a student alone passes, in order of the maps.
        reads: How many of a student's last maps a head reads; 0 for all.
    """

    name: str
    arguments: dict[str, Any]
    freezing: dict[str, Any] = field(default_factory=dict)
    of_one_map: tuple[str, ...] = ()
    reads: int = 0


STUDENTS = {
    "RS4D": Case("RS4D", {"variant": "tiny", "image_size": 64, "patch_size": 8}, freezing={"frozen_layers": 3}),
    "LALE": Case("LALE", {"variant": "S1"}, of_one_map=("norms.0.", "norms.1.", "norms.2.", "norms.3.")),
    "EfficientViT": Case("EfficientViT", {"variant": "b0"}),
    "EfficientViT, two maps, half precision": Case(
        "EfficientViT", {"variant": "b0", "out_indices": [1, 2], "norm_eps": 1e-3, "attention_precision": "input"}
    ),
    "EfficientViTSAM": Case("EfficientViTSAM", {"variant": "l0", "half_resolution": True}),
    # timm starts residual branches at zero, and what lies behind a zero has no gradient in the first step.
    "convolutions of timm": Case(
        "TimmStudent", {"name": "resnet10t", "out_indices": [1, 2, 3, 4], "options": {"zero_init_last": False}}
    ),
    # Without padding timm's transformers take whole patches alone.
    "transformer of timm": Case("TimmStudent", {"name": "vit_tiny_patch16_224", "options": _VIT_STUDENT}),
}
TEACHERS = {
    "CNN": Case("CNN", {"name": "test_convnext", "stages": [1, 3]}),
    "SAM": Case("SAM", {"image_size": 64, "blocks": [0]}),
    # Without the teacher's padding this student would drop the rest of a division.
    "Segmenter": Case(
        "Segmenter",
        {
            "backbone": partial(students.TimmStudent, "test_convnext"),
            "head": partial(heads.LALEDecoder, channels=16),
        },
    ),
    "ViT": Case("ViT", {"name": "vit_tiny_patch16_224", "blocks": [1], "options": NARROW_VIT}),
}
_TWO_STAGE = {
    "neck_channels": 32,
    "fc_channels": 64,
    "roi_samples": 32,
    "proposals": 64,
    "score_threshold": 0.0,
    "max_detections": 10,
}
HEADS = {
    "CascadeMaskRCNN": Case("CascadeMaskRCNN", {**_TWO_STAGE, "mask_convs": 1}),
    "DenseMasks": Case("DenseMasks", {}, reads=1),
    "FPNDecoder": Case("FPNDecoder", {"channels": 32, "segmentation_channels": 32}),
    "LALEDecoder": Case("LALEDecoder", {"channels": 32}),
    "MaskRCNN": Case("MaskRCNN", {**_TWO_STAGE, "mask_convs": 1}),
    "RSPrompter": Case("RSPrompter", {**_TWO_STAGE, "decoder_channels": 32, "mask_points": 256}),
    "SegHead": Case("SegHead", {}, reads=3),
    "UPerNet": Case("UPerNet", {"channels": 16}),
}


def components(package: ModuleType) -> dict[str, type[nn.Module]]:
    """The classes of a registry."""
    members = {name: getattr(package, name) for name in package.__all__}
    return {name: member for name, member in members.items() if isinstance(member, type)}


def names_without_a_case() -> set[str]:
    """Components that no case stands for."""
    registries = ((students, STUDENTS), (teachers, TEACHERS), (heads, HEADS))
    return {
        f"{package.__name__}.{name}"
        for package, cases in registries
        for name in components(package).keys() - {case.name for case in cases.values()}
    }


def having(method: str, argument: str = "") -> list[str]:
    """Cases of students that have a method, and whose method has an argument that starts like this."""
    return [
        name
        for name, case in STUDENTS.items()
        if (function := getattr(getattr(students, case.name), method, None))
        and any(parameter.startswith(argument) for parameter in signature(function).parameters)
    ]


def build_student(case: Case, seed: int = 0, **arguments: Any) -> nn.Module:
    """The student of a case in eval mode."""
    torch.manual_seed(seed)
    student: nn.Module = getattr(students, case.name)(**case.arguments, **arguments)
    return student.eval()


def build_head(case: Case, info: FeatureInfo, seed: int = 0, class_names: Sequence[str] = CLASSES) -> nn.Module:
    """The head of a case in eval mode."""
    torch.manual_seed(seed)
    head: nn.Module = getattr(heads, case.name)(info, list(class_names), **case.arguments)
    return head.eval()


def build_teacher(case: Case, folder: Path, seed: int = 0) -> nn.Module:
    """The teacher of a case on random weights, all of which matter; needs the fixture `narrow`."""
    torch.manual_seed(seed)
    encoder: Any
    if case.name == "SAM":
        encoder = timm.create_model("samvit_base_patch16", num_classes=0, img_size=case.arguments["image_size"])
    elif case.name == "Segmenter":
        encoder = nn.ModuleDict({"student": case.arguments["backbone"]()})
        encoder["head"] = case.arguments["head"](encoder["student"].feature_info, list(CLASSES))
    else:
        encoder = timm.create_model(case.arguments["name"], num_classes=0, **case.arguments.get("options", {}))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    content = encoder.state_dict()
    if case.name == "Segmenter":
        content = {"state_dict": content, "class_names": list(CLASSES), "global_step": 1}
    torch.save(content, folder / f"{seed}.pth")
    teacher: nn.Module = getattr(teachers, case.name)(**case.arguments, checkpoint=str(folder / f"{seed}.pth"))
    return teacher


def narrow(patch: pytest.MonkeyPatch) -> None:
    """Narrows what has no small variant: the backbone of EfficientViT-SAM, and SAM's image encoder."""
    variant = replace(efficientvit._VARIANTS["l0"], widths=(8, 8, 16, 32, 32), blocks=(1, 1, 1, 1, 1))
    patch.setitem(efficientvit._VARIANTS, "l0", variant)
    create: Callable[..., nn.Module] = timm.create_model

    def smaller(name: str, **arguments: Any) -> nn.Module:
        return create(name, **(NARROW_SAM if name.startswith("samvit") else {}), **arguments)

    patch.setattr(timm, "create_model", smaller)


def images(height: int = 64, width: int = 64, batch: int = 2) -> Tensor:
    """Normalised images (B, 3, H, W), always the same."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def distance(one: Tensor, other: Tensor) -> float:
    """Of two tensors, relative to the size of the second."""
    difference = (one.detach().double() - other.detach().double()).norm()
    return float(difference / other.detach().double().norm())


def assert_reached(module: nn.Module, but: Collection[str] = ()) -> None:
    """Every parameter that is trained has a gradient that is finite, and in eval mode not zero; the others have none.

    In training mode the gradient of whatever only shifts the input of a batch norm is zero but for rounding.

    Args:
        module: After a backward pass.
        but: Names of parameters that are trained and have no gradient.
    """
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None, f"{name} is frozen and has a gradient"
            continue
        assert (parameter.grad is not None) != (name in but), f"{name} has {'a' if name in but else 'no'} gradient"
        if parameter.grad is None:
            continue
        assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"
        assert module.training or parameter.grad.any(), f"the gradient of {name} is zero"
