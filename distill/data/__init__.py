"""Images in, batches out: folders for distillation, COCO instances and labelled pixels for fine-tuning."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.data.coco import CocoInstances
    from distill.data.folder import ImageFolder
    from distill.data.hrsid import HRSID
    from distill.data.isprs import ISPRS
    from distill.data.landcover import ARAS400k, DubaiLandCover, LoveDA, SemanticFolder
    from distill.data.nwpu import NWPU
    from distill.data.ssdd import SSDD
    from distill.data.whu import WHU

__all__ = [
    "HRSID",
    "ISPRS",
    "NWPU",
    "SSDD",
    "WHU",
    "ARAS400k",
    "CocoInstances",
    "DubaiLandCover",
    "ImageFolder",
    "LoveDA",
    "SemanticFolder",
]

_HOMES = {
    "ARAS400k": "landcover",
    "CocoInstances": "coco",
    "DubaiLandCover": "landcover",
    "HRSID": "hrsid",
    "ISPRS": "isprs",
    "ImageFolder": "folder",
    "LoveDA": "landcover",
    "NWPU": "nwpu",
    "SSDD": "ssdd",
    "SemanticFolder": "landcover",
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
