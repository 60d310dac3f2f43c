"""Pixels of one grid as averages of the pixels of another.

Axes: B bands, H W pixels of the source, h w pixels of the grid.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Side:
    """One side of a grid that covers the same ground as a side of the source, with pixels of another size.

    A pixel that is larger than those of the source is their average, each weighted by how much of it lies inside. A
    smaller one is interpolated between the nearest two. What a pixel becomes does not depend on the window that is
    asked for.

    Args:
        source: Its length in pixels.
        grid: Length of the grid in pixels.
    """

    source: int
    grid: int

    @property
    def factor(self) -> float:
        """Pixels of the source in one of the grid."""
        return self.source / self.grid

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """The pixels of the source that pixels `start` to `stop` of the grid need."""
        if self.source == self.grid:
            return start, stop
        places, _ = self._taps(np.array([start, stop - 1]))
        return int(places[0, 0]), int(places[1, -1]) + 1

    def weights(self, start: int, stop: int) -> "csr_array | None":
        """Weights (stop - start, pixels of `span`), the sum of each row is 1; None where the grid is the source."""
        if self.source == self.grid:
            return None
        places, weights = self._taps(np.arange(start, stop))
        first, last = self.span(start, stop)
        ends = np.arange(len(places) + 1) * places.shape[1]
        matrix = csr_array((weights.ravel(), places.ravel() - first, ends), shape=(stop - start, last - first))
        matrix.sum_duplicates()
        return matrix

    def _taps(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Pixels of the source (N, taps), rising, and their weights, for pixels of the grid."""
        if self.factor > 1:
            low, high = numbers * self.factor, (numbers + 1) * self.factor
            places = np.floor(low).astype(np.int64)[:, None] + np.arange(int(np.ceil(self.factor)) + 1)
            weights = np.minimum(places + 1, high[:, None]) - np.maximum(places, low[:, None])
        else:
            centre = (numbers + 0.5) * self.factor - 0.5
            places = np.floor(centre).astype(np.int64)[:, None] + np.arange(2)
            weights = 1 - np.abs(places - centre[:, None])
        weights = np.maximum(weights, 0)
        return places.clip(0, self.source - 1), weights / weights.sum(axis=1, keepdims=True)


def resample(
    values: NDArray[np.uint8], valid: NDArray[np.bool_] | None, rows: Any, columns: Any
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Averages by the weights of both sides; of data only, where at least half of a pixel is data.

    Args:
        values: (B, H, W).
        valid: Which pixels (H, W) are data; None where all are.
        rows: `Side.weights` (h, H); None leaves the side as it is.
        columns: (w, W), likewise.

    Returns:
        (B, h, w), 0 where not data; and which pixels (h, w) are data.
    """
    if rows is None and columns is None:
        return values, valid
    if valid is None:
        return np.stack([np.rint(_weighted(band, rows, columns)) for band in values]).astype(np.uint8), None
    share = _weighted(valid, rows, columns)
    kept = share >= 0.5 - 1e-9
    means = [_weighted(band * valid, rows, columns) / np.where(kept, share, 1) for band in values]
    return np.where(kept, np.rint(np.stack(means)), 0).astype(np.uint8), kept


def _weighted(band: NDArray[Any], rows: Any, columns: Any) -> NDArray[np.float64]:
    result = band.astype(np.float64)
    if rows is not None:
        result = rows @ result
    return result if columns is None else (columns @ result.T).T
