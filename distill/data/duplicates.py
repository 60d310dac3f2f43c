"""Images that show nearly the same, found by their content: copies that were re-compressed, scaled, turned or mirrored.

A difference hash proposes pairs, the correlation of thumbnails confirms them: with the hash alone, dark radar scenes
would match, because their 64 bits are mostly noise. Cells of a thumbnail that are all black or all white are left out,
because tiles at the edge of a scene may share nothing but the area without data. Crops of one place that overlap in
part are found by neither; see `distill.curate.overlaps` for those.

Axes: N and M images, T = 32 side of a thumbnail.

Source: difference hash by Krawetz, "Kind of Like That" (hackerfactor.com, 2013).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

_SIDE = 32
_LARGEST_DISTANCE = 10  # of 64 bits
_SMALLEST_CORRELATION = 0.9
_SMALLEST_CONTRAST = 2.0  # standard deviation in grey levels; blank tiles all match and mean nothing
_NODATA = (2, 253)  # grey levels up to and from which a cell holds nothing; compression moves black and white a little
_SMALLEST_SHARE = 1 / 8  # of a thumbnail; a smaller common part is not compared
_ROWS = 256  # images compared with all others at once, which bounds the memory


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
    """Grey levels and hashes by which images are compared.

    Args:
        thumbnails: Grey levels (N, T, T) float32.
        shown: Which cells of them (N, T, T) hold something.
    """

    thumbnails: NDArray[np.float32]
    shown: NDArray[np.bool_]

    @classmethod
    def from_thumbnails(cls, thumbnails: Sequence[NDArray[np.float32]]) -> "Looks":
        """From what `thumbnail` returned."""
        stacked = np.stack(thumbnails) if thumbnails else np.zeros((0, _SIDE, _SIDE), np.float32)
        nodata = (stacked <= _NODATA[0]) | (stacked >= _NODATA[1])
        # One cell further: those on the edge of a wedge are part nodata, and alike in all images that have the wedge.
        grown = [cv2.dilate(cells, np.ones((3, 3), np.uint8)) for cells in nodata.astype(np.uint8)]
        return cls(stacked, np.stack(grown) == 0 if grown else ~nodata)

    def turned(self, orientation: int) -> "Looks":
        """In one of the eight orientations: quarter turns, then mirrored."""
        thumbnails = np.rot90(self.thumbnails, orientation % 4, axes=(1, 2))
        shown = np.rot90(self.shown, orientation % 4, axes=(1, 2))
        return Looks(thumbnails, shown) if orientation < 4 else Looks(thumbnails[:, :, ::-1], shown[:, :, ::-1])

    def __len__(self) -> int:
        return len(self.thumbnails)

    def __getitem__(self, chosen: NDArray[np.int64] | slice) -> "Looks":
        return Looks(self.thumbnails[chosen], self.shown[chosen])


def thumbnail(pixels: Tensor) -> NDArray[np.float32]:
    """Grey levels (T, T) of an image (3, H, W) uint8, averaged over areas."""
    grey = cv2.cvtColor(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()), cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)


def near_identical(first: Looks, second: Looks | None = None) -> list[Pair]:
    """Pairs of one set, or across two, that look alike in any of the eight orientations, best first.

    Of many images that all look alike only so many pairs come as connect them, so there are fewer pairs than images.
    """
    other = first if second is None else second
    offset = 0 if second is None else len(first)
    # A number for each image, the same for those connected so far. Which pairs are kept depends on it while they are
    # found, so `groups_of` comes too late here.
    group = np.arange(offset + len(other))
    pairs = []
    for start, correlations, distances, turned in _compared(first, other, within=second is None):
        for row, of_row in enumerate(correlations):
            i = start + row
            alike = np.flatnonzero(of_row >= _SMALLEST_CORRELATION)
            alike = alike[np.argsort(-of_row[alike], kind="stable")]
            _, best = np.unique(group[offset + alike], return_index=True)  # one partner in each group, the best
            for j in alike[np.sort(best)].tolist():
                if group[offset + j] != group[i]:
                    group[group == group[offset + j]] = group[i]
                    correlation = round(float(of_row[j]), 4)
                    pairs.append(Pair(i, j, int(distances[row, j]), correlation, bool(turned[row, j])))
    return sorted(pairs, key=lambda pair: (-pair.correlation, pair.first, pair.second))


def groups_of(pairs: Sequence[Pair], count: int) -> NDArray[np.int64]:
    """The group (N,) of each of `count` images. Images that pairs connect share one: the index of the first of them."""
    first, second = [pair.first for pair in pairs], [pair.second for pair in pairs]
    graph = coo_array((np.ones(len(pairs), np.bool_), (first, second)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    _, leaders = np.unique(labels, return_index=True)
    return leaders[labels].astype(np.int64)


_Block = tuple[int, NDArray[np.float32], NDArray[np.int8], NDArray[np.bool_]]


def _compared(first: Looks, other: Looks, within: bool) -> Iterator[_Block]:
    """For a block of `first` at a time: its start, and of each with each of `other` (rows, M) the best orientation's
    correlation (-1 where the hashes differ too much), distance of the hashes, and whether it is turned.
    """
    hashes, turned_hashes = _hashes(first), [_hashes(other.turned(orientation)) for orientation in range(8)]
    for start in range(0, len(first), _ROWS):
        block = hashes[start : start + _ROWS]
        correlations = np.full((len(block), len(other)), -1, np.float32)
        distances = np.zeros(correlations.shape, np.int8)
        turned = np.zeros(correlations.shape, np.bool_)
        for orientation, others in enumerate(turned_hashes):
            bits = ((64 - block @ others.T) / 2).astype(np.int8)
            close = bits <= _LARGEST_DISTANCE
            if within:
                close = np.triu(close, start + 1)  # each pair once, and none of an image with itself
            rows, columns = np.flatnonzero(close.any(axis=1)), np.flatnonzero(close.any(axis=0))
            if not len(rows):
                continue
            cells = np.ix_(rows, columns)
            likeness = np.where(close[cells], _correlation(first[start + rows], other[columns].turned(orientation)), -1)
            better = likeness > correlations[cells]
            correlations[cells] = np.where(better, likeness, correlations[cells])
            distances[cells] = np.where(better, bits[cells], distances[cells])
            turned[cells] = np.where(better, orientation > 0, turned[cells])
        yield start, correlations, distances, turned


def _hashes(looks: Looks) -> NDArray[np.float32]:
    """Signs (N, 64) of the differences between neighbours in a grid of 8 rows and 9 columns."""
    grids = [cv2.resize(np.ascontiguousarray(t), (9, 8), interpolation=cv2.INTER_AREA) for t in looks.thumbnails]
    stacked = np.stack(grids) if grids else np.zeros((0, 8, 9), np.float32)
    return np.where(stacked[:, :, 1:] > stacked[:, :, :-1], 1, -1).reshape(len(stacked), 64).astype(np.float32)


def _correlation(first: Looks, second: Looks) -> NDArray[np.float32]:
    """Correlation (N, M) of each with each, over the cells that both show; -1 where these are few or blank.

    Source: Padfield, "Masked Object Registration in the Fourier Domain", IEEE TIP 21 (2012), without the shifts.
    """
    a, b = _centred(first), _centred(second)
    in_a, in_b = (looks.shown.reshape(len(looks), -1).astype(np.float32) for looks in (first, second))
    count = np.maximum(in_a @ in_b.T, 1)
    sum_a, sum_b = a @ in_b.T, in_a @ b.T
    variance_a = a**2 @ in_b.T / count - (sum_a / count) ** 2
    variance_b = in_a @ (b**2).T / count - (sum_b / count) ** 2
    covariance = a @ b.T / count - sum_a * sum_b / count**2
    least = _SMALLEST_CONTRAST**2
    telling = (count >= _SMALLEST_SHARE * _SIDE**2) & (variance_a >= least) & (variance_b >= least)
    scale = np.sqrt(np.maximum(variance_a, least) * np.maximum(variance_b, least))
    return np.where(telling, covariance / scale, -1).astype(np.float32)


def _centred(looks: Looks) -> NDArray[np.float32]:
    """Grey levels (N, T * T) less the mean of the cells shown, and 0 elsewhere; sums of their squares stay small."""
    shown = looks.shown.reshape(len(looks), -1)
    flat = np.where(shown, looks.thumbnails.reshape(len(looks), -1), 0)
    mean = flat.sum(axis=1, keepdims=True) / np.maximum(shown.sum(axis=1, keepdims=True), 1)
    return np.where(shown, flat - mean, 0).astype(np.float32)
