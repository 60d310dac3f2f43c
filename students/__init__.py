"""Backbones to distil into: RS4D's state-space student, and every model of timm."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from students.released_rs4d import convert_released_state_dict
    from students.rs4d import RS4D
    from students.timm_student import TimmStudent

__all__ = ["RS4D", "TimmStudent", "convert_released_state_dict"]

_MODULES = {
    "RS4D": "students.rs4d",
    "TimmStudent": "students.timm_student",
    "convert_released_state_dict": "students.released_rs4d",
}


def __getattr__(name: str) -> object:
    """Imports a backbone, and timm with it, on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)
