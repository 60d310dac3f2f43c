"""The image that `distill bench` gives to all models."""

import cv2
import numpy as np
from numpy.typing import NDArray


def bench_image(side: int) -> NDArray[np.float32]:
    """A smooth image (1, 3, S, S) in [0, 1] for a side S in pixels, always the same."""
    coarse = np.random.default_rng(0).random((8, 8, 3), np.float32)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(smooth.transpose(2, 0, 1)[None], np.float32)
