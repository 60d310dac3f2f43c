"""Frozen models whose features or logits students learn to reproduce. One family per file."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from teachers.cnn import CNN
    from teachers.sam import SAM
    from teachers.segmenter import Segmenter
    from teachers.vit import ViT

__all__ = ["CNN", "SAM", "Segmenter", "ViT"]

_HOMES = {
    "CNN": "teachers.cnn",
    "SAM": "teachers.sam",
    "Segmenter": "teachers.segmenter",
    "ViT": "teachers.vit",
}


def __getattr__(name: str) -> Any:
    """Imports on first use, so that `import teachers` needs no PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'teachers' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
