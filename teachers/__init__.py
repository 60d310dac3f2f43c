"""Frozen vision transformers whose features students learn to reproduce. One family per file."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from teachers.sam import SAM
    from teachers.vit import ViT

__all__ = ["SAM", "ViT"]

_HOMES = {"SAM": "teachers.sam", "ViT": "teachers.vit"}


def __getattr__(name: str) -> Any:
    """Imports on first use, so that `import teachers` needs no PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'teachers' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
