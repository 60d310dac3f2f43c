"""MMDetection's `BitmapMasks`, made dense only for the instances that are asked for.

Axes: N instances, H W pixels, R regions.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.instance_masks import InstanceMasks
from heads.mmdet.mmcv_ops import ensure_mmcv_ops

ensure_mmcv_ops()  # before mmdet

from mmdet.structures.mask import BitmapMasks  # noqa: E402

_AT_ONCE = 1 << 26  # values of the float32 masks that regions are cut from: 256 MiB


class MasksOnDemand(BitmapMasks):
    """`BitmapMasks` of the chosen instances, with the same results, that does not hold N whole images.

    Args:
        masks: Masks (G, H, W) of an image, dense or not.
        chosen: Numbers (N,) of those that count.
    """

    def __init__(self, masks: Tensor | InstanceMasks, chosen: Tensor) -> None:
        self.source = masks
        self.chosen = chosen.cpu().numpy()
        self.height, self.width = masks.shape[-2:]

    @property
    def masks(self) -> NDArray[np.uint8]:
        """All of them, (N, H, W)."""
        return self._dense(self.chosen)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: Any) -> BitmapMasks:
        """Those of an index, indices or flags."""
        return BitmapMasks(self._dense(np.atleast_1d(self.chosen[index])), self.height, self.width)

    def crop_and_resize(
        self,
        bboxes: NDArray[np.float32] | Tensor,
        out_shape: tuple[int, int],
        inds: NDArray[np.int64] | Tensor,
        device: torch.device | str = "cpu",
        interpolation: str = "bilinear",
        binarize: bool = True,
    ) -> BitmapMasks:
        """The masks inside of regions, resized: see `BaseInstanceMasks.crop_and_resize`.

        Args:
            bboxes: Regions (R, 4).
            out_shape: Height and width of the results.
            inds: Which instance each region belongs to, (R,).
            device: Where that is computed.
            interpolation: As `BitmapMasks` takes it.
            binarize: Whether the results are 0 and 1.
        """
        numbers = inds.cpu().numpy() if isinstance(inds, Tensor) else inds
        step = max(1, _AT_ONCE // (self.height * self.width))
        parts = []
        for start in range(0, len(numbers), step):
            needed, position = np.unique(numbers[start : start + step], return_inverse=True)
            part = self[needed].crop_and_resize(
                bboxes[start : start + step], out_shape, position, device, interpolation, binarize
            )
            parts.append(part.masks)
        return BitmapMasks(np.concatenate(parts) if parts else [], *out_shape)

    def _dense(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.source[torch.from_numpy(numbers)].cpu().numpy().view(np.uint8)
