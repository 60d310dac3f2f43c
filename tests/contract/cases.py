"""Every student, teacher and head as small as it comes: those that the packages hold, built with their `smoke_args`.

Cases say what a component may do that others may not, and why; everything else is demanded of all alike.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
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
from distill.contracts import Component, DecoderBase, FeatureInfo, HeadBase, StudentBase, TeacherBase
from distill.recipe.compose import compose
from students import efficientvit

CLASSES = ("ship", "plane", "tank")
NARROW_SAM = {"embed_dim": 32, "depth": 2, "num_heads": 2, "global_attn_indexes": (1,)}
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


def components(package: ModuleType) -> dict[str, type[Component]]:
    """The component classes of a package."""
    members = {name: getattr(package, name) for name in package.__all__}
    return {name: member for name, member in members.items() if isinstance(member, type)}


def with_smoke_args(package: ModuleType, special: dict[str, Case]) -> dict[str, Case]:
    """A case for every component of a package: those in `special`, the others with their own `smoke_args`.

    Raises:
        LookupError: A component has no case and defines no `smoke_args`.
    """
    cases = dict(special)
    for name, component in components(package).items():
        if any(case.name == name for case in special.values()):
            continue
        if not any("smoke_args" in vars(parent) for parent in component.__mro__ if parent not in _CONTRACTS):
            raise LookupError(
                f"{package.__name__}.{name} has no smoke_args: give the class a classmethod smoke_args that returns "
                "the arguments of a small one, so that tests/contract can build it"
            )
        cases[name] = Case(name, component.smoke_args())
    return cases


_CONTRACTS = (Component, StudentBase, TeacherBase, HeadBase, DecoderBase)
STUDENTS = with_smoke_args(
    students,
    {
        "RS4D": Case("RS4D", students.RS4D.smoke_args(), freezing={"frozen_layers": 3}),
        "LALE": Case("LALE", students.LALE.smoke_args(), of_one_map=("norms.0.", "norms.1.", "norms.2.", "norms.3.")),
        "EfficientViT": Case("EfficientViT", students.EfficientViT.smoke_args()),
        "EfficientViT, two maps, half precision": Case(
            "EfficientViT", {"variant": "b0", "out_indices": [1, 2], "norm_eps": 1e-3, "attention_precision": "input"}
        ),
        "convolutions of timm": Case("TimmStudent", students.TimmStudent.smoke_args()),
        # Without padding timm's transformers take whole patches alone.
        "transformer of timm": Case("TimmStudent", {"name": "vit_tiny_patch16_224", "options": _VIT_STUDENT}),
    },
)
TEACHERS = with_smoke_args(
    teachers,
    {
        # It is built from a run: `build_teacher` writes one. Without the teacher's padding this student would drop the
        # rest of a division.
        "Segmenter": Case(
            "Segmenter",
            {
                "backbone": partial(students.TimmStudent, "test_convnext"),
                "head": partial(heads.LALEDecoder, channels=16),
            },
        ),
    },
)


def light(head: type[HeadBase]) -> Case:
    """What `recipes/head/light.yaml` makes of a head, its widths aside."""
    recipe = compose(["finetune/mask_rcnn", "head/light"]).content
    return Case(head.__name__, recipe["model"]["init_args"]["head"]["init_args"] | head.smoke_args())


HEADS = with_smoke_args(
    heads,
    {
        "DenseMasks": Case("DenseMasks", {}, reads=1),
        "SegHead": Case("SegHead", {}, reads=3),
        "MaskRCNN": Case("MaskRCNN", heads.MaskRCNN.smoke_args()),
        "MaskRCNN, light": light(heads.MaskRCNN),
        "CascadeMaskRCNN": Case("CascadeMaskRCNN", heads.CascadeMaskRCNN.smoke_args()),
        "CascadeMaskRCNN, light": light(heads.CascadeMaskRCNN),
    },
)


def overriding(method: str) -> list[str]:
    """Cases of students whose class does what `StudentBase` only does for those that cannot."""
    default = getattr(StudentBase, method)
    return [name for name, case in STUDENTS.items() if getattr(getattr(students, case.name), method) is not default]


def build_student(case: Case, seed: int = 0, **arguments: Any) -> StudentBase:
    """The student of a case in eval mode."""
    torch.manual_seed(seed)
    student: StudentBase = getattr(students, case.name)(**case.arguments, **arguments)
    return student.eval()


def build_head(case: Case, info: FeatureInfo, seed: int = 0, class_names: Sequence[str] = CLASSES) -> Any:
    """The head of a case in eval mode."""
    torch.manual_seed(seed)
    head: HeadBase | DecoderBase = getattr(heads, case.name)(info, list(class_names), **case.arguments)
    return head.eval()


def build_teacher(case: Case, folder: Path, seed: int = 0) -> TeacherBase:
    """The teacher of a case on random weights, all of which matter; needs the fixture `narrow`."""
    torch.manual_seed(seed)
    encoder: Any
    if case.name not in ("CNN", "SAM", "Segmenter", "ViT"):
        other: TeacherBase = getattr(teachers, case.name)(**case.arguments)  # random weights are all that is asked for
        return other
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
    teacher: TeacherBase = getattr(teachers, case.name)(**case.arguments, checkpoint=str(folder / f"{seed}.pth"))
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
