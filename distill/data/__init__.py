"""Images in, batches out: folders for distillation, COCO instances and labelled pixels for fine-tuning."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.data.coco import CocoInstances
    from distill.data.datasets.hrsid import HRSID
    from distill.data.datasets.isprs import ISPRS
    from distill.data.datasets.landcover import ARAS400k, DubaiLandCover, LoveDA, SemanticFolder
    from distill.data.datasets.nwpu import NWPU
    from distill.data.datasets.ssdd import SSDD
    from distill.data.datasets.whu import WHU
    from distill.data.folder import ImageFolder

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
    "ARAS400k": "datasets.landcover",
    "CocoInstances": "coco",
    "DubaiLandCover": "datasets.landcover",
    "HRSID": "datasets.hrsid",
    "ISPRS": "datasets.isprs",
    "ImageFolder": "folder",
    "LoveDA": "datasets.landcover",
    "NWPU": "datasets.nwpu",
    "SSDD": "datasets.ssdd",
    "SemanticFolder": "datasets.landcover",
    "WHU": "datasets.whu",
}


def __getattr__(name: str) -> Any:
    """Imports a data module on first use, so that `import distill.data` does not load Lightning and torchvision."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
