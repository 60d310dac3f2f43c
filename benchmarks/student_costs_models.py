"""The models that `student_costs.py` compares, by name."""

from collections.abc import Callable
from functools import partial

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from heads import LALEDecoder, SegHead
from students import LALE, RS4D, EfficientViT, EfficientViTSAM, TimmStudent

Build = Callable[[int], nn.Module]  # from the side of the image in pixels

CLASSES = [str(index) for index in range(7)]
UPERNET, SMALL_LALE = "UPerNet", "LALE S1, decoder"


def smallest() -> dict[str, Build]:
    """The smallest of each, RS4D's most used, and what they are compared with."""
    return {
        "RS4D tiny": partial(rs4d, "tiny"),
        "RS4D base": partial(rs4d, "base"),
        "LALE S1": lambda size: LALE("S1"),
        SMALL_LALE: segmenting_lale,
        "EfficientViT b0": lambda size: EfficientViT("b0"),
        "EfficientViT b0, SegHead": segmenting_efficientvit,
        "EfficientViT-SAM l0": lambda size: EfficientViTSAM("l0"),
        "ResNet-50": lambda size: TimmStudent("resnet50"),
        "SAM ViT-B": partial(sam, "base"),
        UPERNET: upernet,
    }


def larger() -> dict[str, Build]:
    models: dict[str, Build] = {f"RS4D {name}": partial(rs4d, name) for name in ("small", "large", "huge")}
    models |= {f"LALE {name}": lambda size, name=name: LALE(name) for name in ("S2", "S3", "S4")}
    vits = ("b1", "b2", "b3", "l0", "l1", "l2", "l3", "xl0", "xl1")
    models |= {f"EfficientViT {name}": lambda size, name=name: EfficientViT(name) for name in vits}
    encoders = ("l1", "l2", "xl0", "xl1")
    return models | {f"EfficientViT-SAM {name}": lambda size, name=name: EfficientViTSAM(name) for name in encoders}


def sam_large() -> dict[str, Build]:
    return {"SAM ViT-L": partial(sam, "large"), "SAM ViT-H": partial(sam, "huge")}


def rs4d(variant: str, size: int) -> nn.Module:
    return RS4D(variant, image_size=size)


def sam(variant: str, size: int) -> nn.Module:
    """The encoder with its neck, its position tables made for the size."""
    return timm.create_model(f"samvit_{variant}_patch16", num_classes=0, global_pool="", img_size=size)


class Segmenter(nn.Module):
    """Logits as large as the image, as SMP's models give them; the decoders' own are a quarter or an eighth of that."""

    def __init__(self, student: nn.Module, head: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.student, self.decoder = student, head(student.feature_info, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return F.interpolate(self.decoder(self.student(images)), images.shape[-2:], mode="bilinear")


def segmenting_lale(size: int) -> nn.Module:
    return Segmenter(LALE("S1"), LALEDecoder)


def segmenting_efficientvit(size: int) -> nn.Module:
    return Segmenter(EfficientViT("b0", out_indices=[1, 2, 3]), SegHead)


def upernet(size: int) -> nn.Module:
    return smp.UPerNet("efficientnet-b0", encoder_weights=None, classes=len(CLASSES))


@torch.inference_mode()
def forward(model: nn.Module, images: Tensor) -> Tensor | list[Tensor]:
    return model(images)
