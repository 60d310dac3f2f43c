"""Data modules: folders of images for distillation, COCO instances and labelled pixels for fine-tuning.

Names are imported on first use, so that `import distill.data` does not load Lightning and torchvision.
"""

from typing import TYPE_CHECKING

from distill.discovery import lazy

if TYPE_CHECKING:
    from distill.data.coco import CocoInstances as CocoInstances
    from distill.data.datasets.aras400k import ARAS400k as ARAS400k
    from distill.data.datasets.dubai import DubaiLandCover as DubaiLandCover
    from distill.data.datasets.hrsid import HRSID as HRSID
    from distill.data.datasets.isprs import ISPRS as ISPRS
    from distill.data.datasets.loveda import LoveDA as LoveDA
    from distill.data.datasets.nwpu import NWPU as NWPU
    from distill.data.datasets.prepared import PreparedInstances as PreparedInstances
    from distill.data.datasets.ssdd import SSDD as SSDD
    from distill.data.datasets.whu import WHU as WHU
    from distill.data.folder import ImageFolder as ImageFolder
    from distill.data.semantic import SemanticFolder as SemanticFolder

__getattr__, __dir__ = lazy(__name__)
