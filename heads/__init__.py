"""Task heads: neck, losses and inference. The only package that imports MMDetection and SMP, and only to build a head.

In a recipe: `class_path: heads.MaskRCNN`. In a plain MMDetection config:
`custom_imports = dict(imports=["heads.mmdet.student"])`, see that module.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heads.cascade_mask_rcnn import CascadeMaskRCNN
    from heads.dense_masks import DenseMasks
    from heads.lale_decoder import LALEDecoder
    from heads.mask_rcnn import MaskRCNN
    from heads.rsprompter import RSPrompter
    from heads.seg_head import SegHead
    from heads.smp_decoders import FPNDecoder, UPerNet

__all__ = [
    "CascadeMaskRCNN",
    "DenseMasks",
    "FPNDecoder",
    "LALEDecoder",
    "MaskRCNN",
    "RSPrompter",
    "SegHead",
    "UPerNet",
]

_MODULES = {
    "CascadeMaskRCNN": "heads.cascade_mask_rcnn",
    "DenseMasks": "heads.dense_masks",
    "FPNDecoder": "heads.smp_decoders",
    "LALEDecoder": "heads.lale_decoder",
    "MaskRCNN": "heads.mask_rcnn",
    "RSPrompter": "heads.rsprompter",
    "SegHead": "heads.seg_head",
    "UPerNet": "heads.smp_decoders",
}


def __getattr__(name: str) -> Any:
    """Imports a head when it is first asked for, so that `import heads` stays cheap."""
    if name not in _MODULES:
        raise AttributeError(f"module 'heads' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
