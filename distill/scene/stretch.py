"""The one stretch of a scene: which two values become black and white in all of its tiles.

A stretch for each tile would make seams. That of the scene follows the rule of training images, whose every image has
its own: see `distill.data.levels.stretch`.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distill.data.levels import apply_palette, percentiles
from distill.scene.chunks import PIECE, piece_shape, pieces

# Up to here, in pixels, all values count, and the stretch is exactly that of a training image.
EXACT = 4_000_000
# Of a larger scene, blocks spread over it are decoded, up to so many pixels, and so many of their values are kept.
_DECODED = 40_000_000
_KEPT = 4_000_000
# A scene may be empty wherever the blocks lie.
_ENOUGH = 50_000  # values


class Pixels(Protocol):
    """A source that is read by windows: a raster, or an image in memory."""

    height: int
    width: int
    block: tuple[int, int]
    palette: NDArray[np.uint8] | None
    dtype: np.dtype[Any]
    may_lack_data: bool

    def read(self, top: int, left: int, height: int, width: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Values (B, h, w) of a window, and which of them are data; None where all are."""

    def coarser(self, factor: float) -> AbstractContextManager["Pixels"]:
        """The same with pixels of up to `factor` the width, where there is such a thing."""


def scene_limits(pixels: Pixels, exact: bool = False) -> tuple[float, float]:
    """The 1st and the 99th percentile of the values of a scene that are data.

    Of a scene of more than `EXACT` pixels, blocks of the file are taken, spread evenly; at full resolution, because
    averages, such as overviews, have fewer extreme values. Where they hold next to no data, the whole scene is read.
    Either way a bounded number of values is held.

    Args:
        pixels: Of the scene.
        exact: Whether all values count, however many there are.
    """
    if exact or pixels.height * pixels.width <= EXACT:
        return percentiles(_values(pixels, _all_windows(pixels), limit=None))
    data = _values(pixels, _spread_windows(pixels), _KEPT)
    if len(data) < _ENOUGH:
        data = _values(pixels, _all_windows(pixels), _KEPT)
    return percentiles(data)


def _values(pixels: Pixels, windows: Iterator[tuple[int, int, int, int]], limit: int | None) -> NDArray[Any]:
    """Values of windows that are data, evenly thinned out to at most `limit`."""
    kept: list[NDArray[Any]] = []
    every, count = 1, 0
    for window in windows:
        values, valid = pixels.read(*window)
        if pixels.palette is not None:
            values = apply_palette(values, pixels.palette)
            valid = None if valid is None else np.broadcast_to(valid, values.shape)
        kept.append((values.ravel() if valid is None else values[valid])[::every].copy())
        count += len(kept[-1])
        while limit is not None and count > limit:
            kept, every = [part[::2].copy() for part in kept], 2 * every
            count = sum(map(len, kept))
    return np.concatenate(kept)


def _all_windows(pixels: Pixels) -> Iterator[tuple[int, int, int, int]]:
    rows, columns = piece_shape(pixels.block, pixels.height, pixels.width)
    for top, bottom in pieces(0, pixels.height, rows):
        for left, right in pieces(0, pixels.width, columns):
            yield top, left, bottom - top, right - left


def _spread_windows(pixels: Pixels) -> Iterator[tuple[int, int, int, int]]:
    """Blocks of about `_DECODED` pixels in all, evenly spread in both directions, from top to bottom."""
    height, width = min(pixels.block[0], pixels.height), min(pixels.block[1], pixels.width)
    height = min(height, max(1, PIECE // width))
    down, across = math.ceil(pixels.height / height), math.ceil(pixels.width / width)
    wanted = max(1, _DECODED // (height * width))
    columns = min(across, max(1, round(math.sqrt(wanted * across / down))))
    rows = min(down, max(1, wanted // columns))
    columns = min(across, max(1, wanted // rows))
    for row in range(rows):
        top = (2 * row + 1) * down // (2 * rows) * height
        for column in range(columns):
            left = (2 * column + 1) * across // (2 * columns) * width
            yield top, left, min(height, pixels.height - top), min(width, pixels.width - left)
