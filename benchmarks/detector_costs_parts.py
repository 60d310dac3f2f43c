"""A student and a head as one detector whose parts are timed and counted; for `detector_costs.py`.

How many regions a head works on depends on its weights, and with random ones that is anything from none to all. Here
every pass does all of its work, with the same boxes in every detector (`heads.mmdet.full_work`): as many proposals as
the head keeps, and a fixed number of instances that get a mask.

Axes: H W pixels.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.contracts import Prediction, Target
from distill.evaluation.cost import count_macs_of_frozen, macs_so_far
from distill.evaluation.parts import Parts
from distill.instance_masks import InstanceMasks
from heads.mmdet.two_stage import TwoStageHead

PARTS = ("backbone", "neck", "proposals", "regions", "masks")


@dataclass(frozen=True)
class Found:
    """What every detector finds in an image.

    Args:
        size: Side of the image in pixels.
        detections: Instances that get a mask.
    """

    size: int
    detections: int = 100


class Detector(nn.Module):
    """Images to predictions, as `distill` computes them.

    Args:
        student: Gives the maps that the head's neck takes.
        head: Two-stage.
        found: What it finds.
    """

    def __init__(self, student: nn.Module, head: TwoStageHead, found: Found) -> None:
        super().__init__()
        self.student, self.head, self.found = student, head, found
        head.max_detections, head.score_threshold = found.detections, 0.5
        self._parts = Parts({"backbone": student.forward, **head.cost_parts()}, rest="regions")

    @torch.inference_mode()
    def forward(self, images: Tensor) -> list[Prediction]:
        """The instances of one image (1, 3, H, W)."""
        return self._found_in(self.student(images))

    @torch.inference_mode()
    def _found_in(self, maps: list[Tensor]) -> list[Prediction]:
        side = self.found.size
        target = Target(
            image_id=0,
            boxes=torch.zeros(0, 4),
            labels=torch.zeros(0, dtype=torch.int64),
            masks=InstanceMasks.from_dense(torch.zeros(0, side, side, dtype=torch.bool)),
            crowd=torch.zeros(0, dtype=torch.bool),
            size=(side, side),
            original_size=(side, side),
        )
        with self.head.full_work():
            found = self.head.predict(maps, [target])
        if len(found[0].scores) != self.found.detections:
            raise SystemExit(f"{len(found[0].scores)} detections instead of {self.found.detections}; ask for fewer")
        return found

    def seconds(self, images: Tensor, clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
        """The seconds of each part in one pass; what lies between parts counts to the regions."""
        return self._parts.measure(lambda: self(images), clock)

    def multiply_adds(self) -> dict[str, float]:
        """The executed multiply-adds of each part in one pass; those of the student are counted without computing."""
        side, levels = self.found.size, self.student.feature_info
        backbone = count_macs_of_frozen(self.student, side)
        sides = [side // reduction for reduction in levels.reduction()]
        maps = [torch.randn(1, channels, size, size) for channels, size in zip(levels.channels(), sides, strict=True)]
        with macs_so_far() as macs:
            return self._parts.measure(lambda: self._found_in(maps), macs) | {"backbone": backbone}
