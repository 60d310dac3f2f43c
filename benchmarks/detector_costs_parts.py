"""A student and a head as one detector whose parts are timed and counted; for `detector_costs.py`.

How many regions a head works on depends on its weights, and with random ones that is anything from none to all. Here
every pass does all of its work, and goes on with the same boxes in every detector: as many proposals as the head
keeps, of which a fixed number has a class, and of these a fixed number gets a mask.

Axes: N regions, K classes, H W pixels.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from distill.contracts import Prediction, Target
from distill.evaluation.cost import count_macs, macs_so_far
from distill.instance_masks import InstanceMasks
from heads.mmdet.float32 import steps
from heads.mmdet.two_stage import TwoStageHead

PARTS = ("backbone", "neck", "proposals", "regions", "masks")
_SIDES = (1 / 64, 1 / 4)  # of boxes, as fractions of the image: 16 to 256 px of 1024
_LOGIT = 10.0  # of the class of a region


@dataclass(frozen=True)
class Found:
    """What every detector finds in an image.

    Args:
        size: Side of the image in pixels.
        detections: Instances that get a mask.
        candidates: Regions with a class, among which non-maximum suppression chooses.
    """

    size: int
    detections: int = 100
    candidates: int = 300

    def boxes(self, count: int) -> Tensor:
        """Always the same boxes (N, 4)."""
        drawn = torch.rand(count, 4, generator=torch.Generator().manual_seed(0))
        low, high = (math.log(self.size * side) for side in _SIDES)
        sides = (low + (high - low) * drawn[:, :2]).exp()
        corners = drawn[:, 2:] * (self.size - sides)
        return torch.cat([corners, corners + sides], dim=1)


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
        self._spent = dict.fromkeys(PARTS, 0.0)
        self._meter: Callable[[], float] = time.perf_counter
        head.max_detections, head.score_threshold = found.detections, 0.5
        proposing, regions = head.rpn_head, head.roi_head
        self._maps = self._metered("backbone", student.__call__)
        head.neck.forward = self._metered("neck", head.neck.forward)  # type: ignore[method-assign]
        proposing.predict = self._metered("proposals", proposing.predict, self._fixed_proposals)
        regions.predict_bbox = self._metered("regions", regions.predict_bbox, self._checked)
        regions.predict_mask = self._metered("masks", regions.predict_mask)
        for box_head in steps(regions.bbox_head):
            box_head.register_forward_hook(self._fixed_classes)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> list[Prediction]:
        """The instances of one image (1, 3, H, W)."""
        return self._found_in(self._maps(images))

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
        return self.head.predict(maps, [target])

    def seconds(self, images: Tensor, clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
        """The seconds of each part in one pass; what lies between parts counts to the regions."""
        return self._by_part(lambda: self(images), clock)

    def multiply_adds(self) -> dict[str, float]:
        """The executed multiply-adds of each part in one pass; those of the student are counted without computing."""
        side = self.found.size
        student = copy.deepcopy(self.student)  # it may keep tables, which are then fake, too
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            backbone = count_macs(student, side)
            shapes = [tuple(level.shape) for level in student(torch.empty(1, 3, side, side))]
        maps = [torch.randn(shape) for shape in shapes]
        with macs_so_far() as macs:
            return self._by_part(lambda: self._found_in(maps), macs) | {"backbone": backbone}

    def _by_part(self, run: Callable[[], object], meter: Callable[[], float]) -> dict[str, float]:
        self._meter, self._spent = meter, dict.fromkeys(PARTS, 0.0)
        start = meter()
        run()
        self._spent["regions"] += meter() - start - sum(self._spent.values())
        return self._spent

    def _metered(self, part: str, call: Callable[..., Any], then: Callable[[Any], Any] | None = None) -> Any:
        def metered(*args: Any, **kwargs: Any) -> Any:
            start = self._meter()
            result = call(*args, **kwargs)
            self._spent[part] += self._meter() - start
            return then(result) if then else result

        return metered

    def _fixed_proposals(self, _: Any) -> list[Any]:
        boxes = self.found.boxes(self.head.rpn_head.test_cfg.max_per_img)
        return [InstanceData(bboxes=boxes, scores=torch.ones(len(boxes)))]

    def _fixed_classes(self, box_head: nn.Module, _: Any, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Forward hook: of N regions the first are of a class, the others background, (N, K + 1)."""
        scores, boxes = output
        numbers = torch.arange(len(scores))
        background = scores.shape[1] - 1
        classes = torch.where(numbers < self.found.candidates, numbers % background, background)
        return torch.zeros_like(scores).scatter(1, classes[:, None], _LOGIT), boxes

    def _checked(self, results: list[Any]) -> list[Any]:
        if len(results[0]) != self.found.detections:
            raise SystemExit(f"{len(results[0])} detections instead of {self.found.detections}; ask for fewer")
        return results
