"""Masks in a window of an image that is resized, without making the pixels of the whole image.

Axes: H W pixels of the image file, R S of the resized window, T taps of the filter.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.patch import Patch

_HALF = 128  # of 255: a pixel belongs to an object that covers half of it or more
_BITS = 22  # fractional bits of a weight


class Zoom:
    """Masks in a resized window of the image: the pixels that an object covers by half or more.

    The result has the same bits as a crop of the mask (H, W), with values 0 and 255, that Pillow resizes (bilinear,
    first the width, then the height), but only pixels near the object are computed. torchvision with antialiasing
    differs in one pixel of a million: its weights have fewer bits.

    Args:
        window: Top, left, height and width of the window in the image file.
        size: Height and width that the window is resized to.
    """

    def __init__(self, window: tuple[int, int, int, int], size: tuple[int, int]) -> None:
        self.top, self.left, self.height, self.width = window
        self._rows, self._columns = _Taps.between(self.height, size[0]), _Taps.between(self.width, size[1])
        self._resized = size != (self.height, self.width)

    def __call__(self, patch: Patch) -> Patch | None:
        """The object in pixels of the resized window; None if none of them is covered."""
        top, left = patch.top - self.top, patch.left - self.left
        y, x = max(top, 0), max(left, 0)
        piece = patch.pixels[y - top : max(self.height - top, 0), x - left : max(self.width - left, 0)]
        if not piece.size:
            return None
        if self._resized:
            x, piece = self._columns.average(piece * np.uint8(255), x)
            y, piece = self._rows.average(piece.T, y)
            piece = (piece.T >= _HALF).astype(np.uint8)
        trimmed = Patch(y, x, piece).trimmed()
        return trimmed if trimmed.pixels.size else None


class _Taps(NamedTuple):
    """The source pixels that each resized pixel averages: `counts` of them from `starts` on, with `weights`.

    Source: Pillow's `precompute_coeffs` and `ImagingResample`, which torch follows for images of uint8: a triangle as
    wide as two resized pixels, or two source pixels where those are larger, in fixed point.
    """

    starts: NDArray[np.int64]  # (S,)
    counts: NDArray[np.int64]  # (S,)
    weights: NDArray[np.int32]  # (S, T)

    @classmethod
    def between(cls, size: int, resized: int) -> "_Taps":
        step = size / resized
        support = max(step, 1.0)
        centres = (np.arange(resized) + 0.5) * step
        starts = np.maximum((centres - support + 0.5).astype(np.int64), 0)
        counts = np.minimum((centres + support + 0.5).astype(np.int64), size) - starts
        taps = np.arange(counts.max())
        distance = (taps + starts[:, None] - centres[:, None] + 0.5) * (1 / support)
        weights = np.where(taps < counts[:, None], np.maximum(1 - np.abs(distance), 0), 0)
        weights /= np.cumsum(weights, axis=1)[:, -1:]
        return cls(starts, counts, (0.5 + weights * (1 << _BITS)).astype(np.int32))

    def average(self, values: NDArray[np.uint8], start: int) -> tuple[int, NDArray[np.uint8]]:
        """Resizes (R, s) along its second axis, which starts at `start` and has zeros on both sides; returns where the
        result starts on the resized axis, too.
        """
        length = values.shape[1]
        low = int(np.searchsorted(self.starts + self.counts, start, side="right"))
        high = int(np.searchsorted(self.starts, start + length, side="left"))
        between_zeros = np.pad(values, ((0, 0), (1, 1))).astype(np.int32)
        total = np.full((len(values), high - low), 1 << (_BITS - 1), np.int32)
        for tap, weights in enumerate(self.weights[low:high].T):
            places = np.clip(self.starts[low:high] + (tap - start), -1, length) + 1
            total += between_zeros[:, places] * weights
        return low, (total >> _BITS).astype(np.uint8)
