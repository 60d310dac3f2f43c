"""Images in, batches out: folders for distillation, COCO instances for fine-tuning, synthetic scenes for both."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.data.coco import CocoInstances
    from distill.data.folder import ImageFolder
    from distill.data.hrsid import HRSID
    from distill.data.nwpu import NWPU
    from distill.data.ssdd import SSDD
    from distill.data.whu import WHU

__all__ = ["HRSID", "NWPU", "SSDD", "WHU", "CocoInstances", "ImageFolder"]

_HOMES = {
    "CocoInstances": "coco",
    "HRSID": "hrsid",
    "ImageFolder": "folder",
    "NWPU": "nwpu",
    "SSDD": "ssdd",
    "WHU": "whu",
}


def __getattr__(name: str) -> Any:
    """Imports a data module on first use, so that `import distill.data` does not load Lightning and torchvision."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
