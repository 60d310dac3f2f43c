"""Backbones to distil into: RS4D's state-space student, and every model of timm."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from students.efficientvit import EfficientViT
    from students.efficientvit_sam import EfficientViTSAM
    from students.lale import LALE
    from students.released_efficientvit import split_released_efficientvit
    from students.released_rs4d import convert_released_state_dict
    from students.rs4d import RS4D
    from students.timm_student import TimmStudent

__all__ = [
    "LALE",
    "RS4D",
    "EfficientViT",
    "EfficientViTSAM",
    "TimmStudent",
    "convert_released_state_dict",
    "split_released_efficientvit",
]

_MODULES = {
    "EfficientViT": "students.efficientvit",
    "EfficientViTSAM": "students.efficientvit_sam",
    "LALE": "students.lale",
    "RS4D": "students.rs4d",
    "TimmStudent": "students.timm_student",
    "convert_released_state_dict": "students.released_rs4d",
    "split_released_efficientvit": "students.released_efficientvit",
}


def __getattr__(name: str) -> object:
    """Imports a backbone, and timm with it, on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)
