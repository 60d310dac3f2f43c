"""The detectors that `detector_costs.py` compares, by name: every student under every head of the recipes."""

from functools import cache, partial
from pkgutil import resolve_name
from typing import Any

import timm
import torch
from detector_costs_parts import Detector, Found
from segment_anything.modeling import ImageEncoderViT
from student_costs_models import Build, rs4d, sam
from torch import Tensor, nn

from distill.recipe.compose import compose
from students import LALE, EfficientViT, TimmStudent
from teachers import SAM

CLASSES = [str(index) for index in range(10)]  # as many as NWPU VHR-10 has
TIMM, RELEASED, OURS = "SAM ViT-B (timm)", "SAM ViT-B (segment-anything)", "SAM ViT-B (teachers.SAM)"
USUAL, LIGHT = "Mask R-CNN", "light Mask R-CNN"
_CASCADE = {"model": {"init_args": {"head": {"class_path": "heads.CascadeMaskRCNN"}}}}
HEADS: dict[str, list[Any]] = {
    USUAL: ["finetune/mask_rcnn"],
    LIGHT: ["finetune/mask_rcnn", "head/light"],
    "Cascade": ["finetune/mask_rcnn", _CASCADE],
    "light Cascade": ["finetune/mask_rcnn", "head/light", _CASCADE],
    "RSPrompter": ["finetune/prompt"],
}
_PROMPTED = (TIMM, "RS4D tiny", "RS4D small", "RS4D base")  # whose last map is SAM's image embedding, or learned it


class Embedding(nn.Module):
    """An encoder of SAM as a student of one map: the image embedding."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.feature_info = timm.models.FeatureInfo(
            [{"num_chs": 256, "reduction": 16, "module": "neck"}], out_indices=(0,)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        found = self.encoder(images)
        return [found["neck"] if isinstance(found, dict) else found]


STUDENTS: dict[str, Build] = {
    TIMM: lambda size: Embedding(sam("base", size)),
    RELEASED: lambda size: Embedding(released_sam(size)),
    OURS: lambda size: Embedding(SAM(image_size=size, pretrained=False, precision="float32")),
    "ResNet-50": lambda size: TimmStudent("resnet50", out_indices=[1, 2, 3, 4]),
    "RS4D base": partial(rs4d, "base"),
    "RS4D small": partial(rs4d, "small"),
    "RS4D tiny": partial(rs4d, "tiny"),
    "LALE S1": lambda size: LALE("S1"),
    "EfficientViT b0": lambda size: EfficientViT("b0"),
    "EfficientViT b1": lambda size: EfficientViT("b1"),
}
REFERENCES = [f"{student} + {USUAL}" for student in (TIMM, RELEASED, OURS)]
GOAL = f"RS4D base + {LIGHT}"
HEADLINE = [
    *(f"{student} + {USUAL}" for student in (TIMM, OURS, "ResNet-50", "RS4D base")),
    *(f"{student} + {LIGHT}" for student in STUDENTS if not student.startswith(("SAM", "ResNet"))),
]
DETECTORS = {
    f"{student} + {head}": (student, head)
    for student in STUDENTS
    for head in HEADS
    if head != "RSPrompter" or student in _PROMPTED
}


def detector(name: str, found: Found) -> Detector:
    """A detector on random weights, in eval mode; those of one student share it."""
    student, head = DETECTORS[name]
    backbone = _student(student, found.size)
    given = compose(HEADS[head]).content["model"]["init_args"]["head"]
    torch.manual_seed(0)
    built = resolve_name(given["class_path"])(backbone.feature_info, CLASSES, **given["init_args"])
    return Detector(backbone, built, found).eval()


@cache
def _student(name: str, size: int) -> Any:
    torch.manual_seed(0)
    return STUDENTS[name](size).eval()


def released_sam(size: int) -> nn.Module:
    """SAM ViT-B's image encoder, as `segment_anything.build_sam` makes it."""
    return ImageEncoderViT(
        img_size=size,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=(2, 5, 8, 11),
        out_chans=256,
    )
