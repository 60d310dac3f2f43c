"""A student of a few convolutions, small heads, and images of coloured rectangles that they can overfit."""

from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn

from distill.contracts import Target
from heads import CascadeMaskRCNN, MaskRCNN, RSPrompter
from heads.mmdet.mmcv_ops import ensure_mmcv_ops

if find_spec("mmdet") is not None:
    ensure_mmcv_ops()  # before test files import MMEngine, which several workers would otherwise do at once

TWO_STAGE_HEADS = [MaskRCNN, CascadeMaskRCNN, RSPrompter]
SMALL = {"neck_channels": 32, "fc_channels": 64, "roi_samples": 32, "proposals": 64}


class Maps:
    """A `feature_info`."""

    def __init__(self, channels: list[int], reductions: list[int]) -> None:
        self._channels, self._reductions = channels, reductions

    def channels(self) -> list[int]:
        return self._channels

    def reduction(self) -> list[int]:
        return self._reductions


class ColumnarStudent(nn.Module):
    """Two maps of stride 8."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.feature_info = Maps([width, width], [8, 8])
        self.embed = nn.Sequential(nn.Conv2d(3, width, 5, 4, 2), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU())
        self.deepen = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.ReLU())

    def forward(self, images: Tensor) -> list[Tensor]:
        shallow = self.embed(images)
        return [shallow, self.deepen(shallow)]


@pytest.fixture(params=TWO_STAGE_HEADS, ids=lambda head: head.__name__)
def head_class(request):
    return request.param


@pytest.fixture
def small(head_class):
    """Arguments that make a head small."""
    own = {"decoder_channels": 32, "mask_points": 256} if head_class is RSPrompter else {"mask_convs": 1}
    return SMALL | own


@pytest.fixture
def maps() -> type[Maps]:
    return Maps


@pytest.fixture
def student() -> ColumnarStudent:
    torch.manual_seed(0)
    return ColumnarStudent()


@pytest.fixture
def target() -> Callable[..., Target]:
    """Builds the target of an image from boxes and labels; masks fill their boxes."""

    def build(
        boxes: list[list[int]],
        labels: list[int],
        crowd: list[bool] | None = None,
        side: int = 64,
        size: tuple[int, int] | None = None,
        original_size: tuple[int, int] | None = None,
        image_id: int = 1,
    ) -> Target:
        masks = torch.zeros(len(boxes), side, side, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
            mask[y1:y2, x1:x2] = True
        size = size or (side, side)
        return Target(
            image_id=image_id,
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor(labels, dtype=torch.int64),
            masks=masks,
            crowd=torch.tensor(crowd or [False] * len(boxes), dtype=torch.bool),
            size=size,
            original_size=original_size or size,
        )

    return build


@pytest.fixture
def image_of() -> Callable[[Target], Tensor]:
    """Paints a target: one channel per class on a grey ground."""

    def paint(target: Target) -> Tensor:
        image = torch.zeros(3, *target.masks.shape[-2:])
        for mask, label in zip(target.masks, target.labels.tolist(), strict=True):
            image[label, mask] = 2.0
        return image

    return paint
