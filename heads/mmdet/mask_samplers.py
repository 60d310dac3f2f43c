"""Mask samplers: the places of a whole-image mask that are compared with the truth, as points, cells or pixels.

Axes: R regions, G instances of one image, P places compared, h w grid of the logits, H W pixels of the network's input.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from distill.errors import unknown_name
from heads.mmdet.mmcv_ops import ensure_mmcv_ops


@dataclass(frozen=True)
class RegionMasks:
    """The true mask of every region, kept once per instance and in one byte per pixel.

    Args:
        instances: Masks (G, H, W) of each image, uint8.
        matched: The instance of each region, (R_i,) int64 for each image; regions are in the order of images.
    """

    instances: list[Tensor]
    matched: list[Tensor]

    def at(self, points: Tensor) -> Tensor:
        """The masks' values (R, P) at points (R, P, 2), given as x and y in [0, 1] of the image."""
        values = []
        per_image = points.split([len(index) for index in self.matched])
        for masks, index, own in zip(self.instances, self.matched, per_image, strict=True):
            height, width = masks.shape[1:]
            columns = (own[..., 0] * width).long().clamp(0, width - 1)
            rows = (own[..., 1] * height).long().clamp(0, height - 1)
            values.append(masks[index[:, None], rows, columns])
        return torch.cat(values).to(points.dtype)

    def covered(self, height: int, width: int) -> Tensor:
        """The covered fraction (R, h, w) of each cell of a grid."""
        return torch.cat(
            [
                # One instance at a time: in float32 a mask takes four times the memory.
                torch.stack([F.adaptive_avg_pool2d(mask[None].float(), (height, width))[0] for mask in masks])[index]
                if len(index)
                else masks.new_zeros(0, height, width, dtype=torch.float32)
                for masks, index in zip(self.instances, self.matched, strict=True)
            ]
        )


Pairs = tuple[Tensor, Tensor]


def at_points(logits: Tensor, truth: RegionMasks, settings: Any) -> Pairs:
    """Logits and truth (R, P) at points of which most lie where the logits are least certain.

    Source: Kirillov et al., "PointRend" (https://arxiv.org/abs/1912.08193), sec. 3.1, on the whole image, as
    Mask2Former (https://arxiv.org/abs/2112.01527) trains its masks.

    Args:
        logits: (R, 1, h, w).
        truth: Of the same regions.
        settings: `num_points`, `oversample_ratio` and `importance_sample_ratio`.
    """
    ensure_mmcv_ops()
    from mmcv.ops import point_sample
    from mmdet.models.utils import get_uncertain_point_coords_with_randomness

    with torch.no_grad():
        points = get_uncertain_point_coords_with_randomness(
            logits, None, settings.num_points, settings.oversample_ratio, settings.importance_sample_ratio
        )
        values = truth.at(points)
    return point_sample(logits, points)[:, 0], values


def on_grid(logits: Tensor, truth: RegionMasks, settings: Any) -> Pairs:
    """Logits and truth (R, h w) on the grid of the logits, where truth is the covered fraction of a cell."""
    return logits.flatten(1), truth.covered(*logits.shape[2:]).flatten(1)


def at_pixels(logits: Tensor, truth: RegionMasks, settings: Any) -> Pairs:
    """Logits and truth (R, H W) at every pixel of the input, as RSPrompter does; the reference for the others."""
    size = truth.instances[0].shape[1:]
    masks = torch.cat([masks[index] for masks, index in zip(truth.instances, truth.matched, strict=True)])
    resized = F.interpolate(logits, size, mode="bilinear", align_corners=False)
    return resized.flatten(1), masks.flatten(1).to(logits.dtype)


_SAMPLERS: dict[str, Callable[[Tensor, RegionMasks, Any], Pairs]] = {
    "points": at_points,
    "grid": on_grid,
    "pixels": at_pixels,
}


def mask_sampler(name: str) -> Callable[[Tensor, RegionMasks, Any], Pairs]:
    """The function that samples logits and truth at the same places.

    Args:
        name: "points", "grid" or "pixels".

    Raises:
        UserError: There is no such sampler.
    """
    if name not in _SAMPLERS:
        raise unknown_name("mask_loss of the prompt head", name, _SAMPLERS)
    return _SAMPLERS[name]
