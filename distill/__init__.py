"""Distil frozen vision transformers into small, linear-time students, fine-tune them, and compare them.

Names are imported on first use, so that `import distill` costs milliseconds and needs no PyTorch.
"""

from typing import TYPE_CHECKING

from distill.discovery import lazy
from distill.shadowing import require_packages

if TYPE_CHECKING:
    from distill.launch.api import fit as fit
    from distill.launch.api import test as test
    from distill.launch.api import validate as validate
    from distill.launch.bench import bench as bench
    from distill.launch.compare import compare as compare
    from distill.launch.export import export as export
    from distill.launch.load import load as load
    from distill.launch.predict import predict as predict
    from distill.launch.share import pull as pull
    from distill.launch.share import push as push
    from distill.launch.sweep.api import sweep as sweep
    from distill.tasks.distillation import DistillationModule as DistillationModule
    from distill.tasks.instances import FineTuningModule as FineTuningModule
    from distill.tasks.masked_autoencoding import MaskedAutoencodingModule as MaskedAutoencodingModule
    from distill.tasks.probes.objects import ObjectProbe as ObjectProbe
    from distill.tasks.probes.patches import PatchProbe as PatchProbe
    from distill.tasks.probes.whole_images import ImageProbe as ImageProbe
    from distill.tasks.segmentation import SegmentationModule as SegmentationModule
    from distill.training.averaging import EMA as EMA
    from distill.weights import load_student as load_student

__version__ = "0.1.0"
__getattr__, __dir__ = lazy(__name__)

require_packages()
