"""Distil frozen vision transformers into small, linear-time students, fine-tune them, and compare them honestly."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from distill.shadowing import warn_of_hidden_packages

if TYPE_CHECKING:
    from distill.launch.load import load
    from distill.tasks.distillation import DistillationModule
    from distill.tasks.instances import FineTuningModule
    from distill.tasks.segmentation import SegmentationModule
    from distill.training.averaging import EMA
    from distill.weights import load_student

__version__ = "0.1.0"
__all__ = ["EMA", "DistillationModule", "FineTuningModule", "SegmentationModule", "load", "load_student"]

_HOMES = {
    "EMA": "distill.training.averaging",
    "DistillationModule": "distill.tasks.distillation",
    "FineTuningModule": "distill.tasks.instances",
    "SegmentationModule": "distill.tasks.segmentation",
    "load": "distill.launch.load",
    "load_student": "distill.weights",
}


def __getattr__(name: str) -> Any:
    """Imports on first use, so that `import distill` costs milliseconds and needs no PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'distill' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


warn_of_hidden_packages()
