"""Resizes maps of floats bilinearly, as `torch.nn.functional.interpolate` without aligned corners does.

Axes: C channels, h w grid of the maps, H W that of the result.
"""

import cv2
import numpy as np
from numpy.typing import NDArray


def resize_maps(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Maps (C, h, w) at another size (C, H, W)."""
    if maps.shape[-2:] == size:
        return maps
    resized = [cv2.resize(np.ascontiguousarray(one), size[::-1], interpolation=cv2.INTER_LINEAR) for one in maps]
    return np.stack(resized)
