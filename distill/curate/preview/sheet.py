"""A grid of images in one figure, each reduced to what the sheet can show.

Axes: H W pixels of an image, h w of the reduced one.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as F

OPACITY = 0.55  # of a mask

_CELL = 3.6  # inches, the width of an image among many
_SHEET = 10.8  # inches, the least width of the sheet: few images are drawn larger
_LONGEST = 4  # the sides of a cell at most; a strip gets no sheet of ten metres
_DOTS = 120  # per inch of the sheet that an image is reduced to before anything is drawn into it


def grid_of(sizes: Sequence[Sequence[int]]) -> tuple[Figure, list[Axes], int]:
    """A figure with axes for images of these heights and widths, and the longest side in pixels that each may have."""
    columns = round(math.sqrt(4 / 3 * len(sizes)))
    rows = math.ceil(len(sizes) / columns)
    aspect = float(np.median([height / width for height, width in sizes]).clip(1 / _LONGEST, _LONGEST))
    cell = max(_CELL, _SHEET / columns)
    figure = Figure(figsize=(cell * columns, (cell * aspect + 0.3) * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes in grid[len(sizes) :]:
        axes.set_axis_off()
    return figure, grid, round(cell * _DOTS)


def reduced_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width of an image whose longer side is at most `side`."""
    zoom = min(1.0, side / max(height, width))
    return max(1, round(height * zoom)), max(1, round(width * zoom))


def resized(pixels: torch.Tensor, size: tuple[int, int]) -> NDArray[np.float32]:
    """RGB (h, w, 3) in [0, 1] of uint8 pixels (3, H, W)."""
    reduced: NDArray[np.uint8] = F.resize(pixels, list(size), antialias=True).permute(1, 2, 0).numpy()
    return reduced.astype(np.float32) / np.float32(255)
