"""Distil frozen vision transformers into small, linear-time students, fine-tune them, and compare them honestly."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from distill.shadowing import warn_of_hidden_packages

if TYPE_CHECKING:
    from distill.averaging import EMA
    from distill.checkpoint import load_student
    from distill.distillation import DistillationModule
    from distill.finetuning import FineTuningModule
    from distill.segmentation import SegmentationModule

__version__ = "0.1.0"
__all__ = ["EMA", "DistillationModule", "FineTuningModule", "SegmentationModule", "load_student"]

_HOMES = {
    "EMA": "distill.averaging",
    "DistillationModule": "distill.distillation",
    "FineTuningModule": "distill.finetuning",
    "SegmentationModule": "distill.segmentation",
    "load_student": "distill.checkpoint",
}


def __getattr__(name: str) -> Any:
    """Imports on first use, so that `import distill` costs milliseconds and needs no PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'distill' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


warn_of_hidden_packages()
