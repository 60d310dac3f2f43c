"""Images that show nearly the same, found by their content: copies that were re-compressed, scaled, turned or mirrored.

A difference hash proposes pairs, the correlation of thumbnails confirms them: the hash alone takes dark radar scenes
for alike, whose 64 bits are mostly noise. Crops of one place that overlap in part look different to both; see
`distill.data.overlaps` for those.

Axes: N images, T = 32 side of a thumbnail.

Source: difference hash by Krawetz, "Kind of Like That" (hackerfactor.com, 2013).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_SIDE = 32
_LARGEST_DISTANCE = 10  # of 64 bits
_SMALLEST_CORRELATION = 0.9
_SMALLEST_CONTRAST = 2.0  # standard deviation in grey levels; blank tiles are all alike and tell nothing
_CHUNK = 1024


@dataclass(frozen=True)
class Pair:
    """Two images that look alike.

    Args:
        first: Index of the one.
        second: Index of the other.
        distance: Bits of 64 in which the hashes differ.
        correlation: Correlation of the thumbnails, up to 1.
        turned: Whether the second had to be turned or mirrored to fit.
    """

    first: int
    second: int
    distance: int
    correlation: float
    turned: bool


@dataclass(frozen=True)
class Looks:
    """What images look like.

    Args:
        thumbnails: Grey levels (N, T, T) float32.
        valid: Which of them can be compared (N,): those that could be read and are not blank.
    """

    thumbnails: NDArray[np.float32]
    valid: NDArray[np.bool_]

    @classmethod
    def of(cls, images: Sequence[Tensor | None]) -> "Looks":
        """From images (3, H, W) uint8; None for those that cannot be read."""
        blank = np.zeros((_SIDE, _SIDE), np.float32)
        return cls.from_thumbnails([blank if pixels is None else thumbnail(pixels) for pixels in images])

    @classmethod
    def from_thumbnails(cls, thumbnails: Sequence[NDArray[np.float32]]) -> "Looks":
        """From what `thumbnail` returned."""
        stacked = np.stack(thumbnails) if thumbnails else np.zeros((0, _SIDE, _SIDE), np.float32)
        return cls(stacked, stacked.std(axis=(1, 2)) >= _SMALLEST_CONTRAST)


def thumbnail(pixels: Tensor) -> NDArray[np.float32]:
    """Grey levels (T, T) of an image (3, H, W) uint8, averaged over areas."""
    grey = cv2.cvtColor(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()), cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)


def near_identical(first: Looks, second: Looks | None = None) -> list[Pair]:
    """Pairs of one set, or across two, that look alike in any of the eight orientations; each pair once, best first."""
    other = first if second is None else second
    hashes, flat = _hashes(first.thumbnails), _normalised(first.thumbnails)
    best: dict[tuple[int, int], Pair] = {}
    for orientation in range(8):
        turned = _turn(other.thumbnails, orientation)
        for start, stop, distances in _distances(hashes, _hashes(turned)):
            close = distances <= _LARGEST_DISTANCE
            close &= first.valid[start:stop, None] & other.valid[None]
            rows, columns = np.nonzero(close)
            correlations = (flat[start + rows] * _normalised(turned[columns])).sum(axis=1)
            for row, column, correlation in zip(rows.tolist(), columns.tolist(), correlations.tolist(), strict=True):
                i, j = start + row, column
                if correlation < _SMALLEST_CORRELATION or (second is None and i >= j):
                    continue
                pair = Pair(i, j, int(distances[row, column]), round(correlation, 4), orientation > 0)
                if (i, j) not in best or best[i, j].correlation < pair.correlation:
                    best[i, j] = pair
    return sorted(best.values(), key=lambda pair: (-pair.correlation, pair.first, pair.second))


def _turn(thumbnails: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """One of the eight orientations: quarter turns, then mirrored."""
    turned = np.rot90(thumbnails, orientation % 4, axes=(1, 2))
    return turned if orientation < 4 else turned[:, :, ::-1]


def _hashes(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """Signs (N, 64) of the differences between neighbours in a grid of 8 rows and 9 columns."""
    grids = [cv2.resize(np.ascontiguousarray(t), (9, 8), interpolation=cv2.INTER_AREA) for t in thumbnails]
    stacked = np.stack(grids) if grids else np.zeros((0, 8, 9), np.float32)
    return np.where(stacked[:, :, 1:] > stacked[:, :, :-1], 1, -1).reshape(len(stacked), 64).astype(np.float32)


def _distances(first: NDArray[np.float32], second: NDArray[np.float32]) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
    """Hamming distances in blocks of rows, so that ten thousand images need no ten thousand squared floats."""

    for start in range(0, len(first), _CHUNK):
        block = first[start : start + _CHUNK]
        yield start, start + len(block), ((64 - block @ second.T) / 2).astype(np.int64)


def _normalised(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = thumbnails.reshape(len(thumbnails), _SIDE * _SIDE)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
