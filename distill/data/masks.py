"""COCO segmentations and pixels: the only code that turns one into the other.

Outlines and run lengths are rasterised by pycocotools, as evaluation does; pixels are made only of the rectangle that
an object fills, so that the cost is that of the objects and not of the image for each of them.

Axes: H W pixels of the image file. A segmentation is a list of polygons [x1, y1, x2, y2, ...], or a run-length encoding
(RLE) with counts as list or as text.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from distill.instance_masks import Patch

_HALF = 128  # of 255: a pixel belongs to what covers half of it or more
_BITS = 22  # after the point of a weight


def to_rle(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """A segmentation as one compressed RLE, as pycocotools takes it."""
    rle: dict[str, Any]
    if isinstance(segmentation, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        rle = coco_mask.frPyObjects({"size": [height, width], "counts": segmentation["counts"]}, height, width)
    else:
        rle = {"size": [height, width], "counts": segmentation["counts"]}
    return rle


def decode_mask(segmentation: Any, height: int, width: int) -> NDArray[np.uint8]:
    """0 and 1 of shape (H, W)."""
    mask: NDArray[np.uint8] = coco_mask.decode(to_rle(segmentation, height, width))
    return mask


def encode_mask(mask: NDArray[Any]) -> dict[str, Any]:
    """A mask (H, W) as compressed RLE, ready for JSON."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def area_of(segmentation: Any, height: int, width: int) -> float:
    """Pixels of a segmentation."""
    return float(coco_mask.area(to_rle(segmentation, height, width)))


def extent_of(segmentation: Any, height: int, width: int) -> list[float]:
    """The box [x, y, width, height] of a segmentation's pixels; width and height are 0 where it has none."""
    return [float(number) for number in coco_mask.toBbox(to_rle(segmentation, height, width))]


def decode_counts(text: str | bytes) -> NDArray[np.int64]:
    """Run lengths of a compressed RLE: differences to the last but one, in groups of five bits.

    pycocotools reads the same without a bound, so a damaged text would make it read foreign memory.

    Raises:
        ValueError: The text is no such encoding.

    Source: `rleFrString` of the COCO API.
    """
    data = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    codes = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    if codes.size == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & 0x20:
        raise ValueError("no run-length encoding")
    ends = np.flatnonzero(codes & 0x20 == 0) + 1
    starts = np.concatenate([[0], ends[:-1]])
    groups = ends - starts
    if groups.max() > 12:
        raise ValueError("no run-length encoding")
    places = np.arange(codes.size) - np.repeat(starts, groups)
    values = np.add.reduceat((codes & 0x1F) << (5 * places), starts)
    values -= np.where(codes[ends - 1] & 0x10, np.int64(1) << (5 * groups), 0)
    for first in (1, 2):  # the first three runs are stored as they are
        values[first::2] = np.cumsum(values[first::2])
    return values


def decode_patch(segmentation: Any, height: int, width: int) -> Patch:
    """The pixels of a segmentation inside the rectangle that they fill; the same bits as `decode_mask` there."""
    rle = to_rle(segmentation, height, width)
    left, top, columns, rows = (int(number) for number in coco_mask.toBbox(rle))
    runs = decode_counts(rle["counts"])
    ends = np.cumsum(runs)[1::2]
    starts = ends - runs[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    # Runs go down the columns. Where one reaches from a column into the next, the rectangle is as high as the image.
    first = (starts // height - left) * rows + starts % height - top
    last = ((ends - 1) // height - left) * rows + (ends - 1) % height - top
    bounds = np.stack([first, last + 1], axis=1).ravel()
    lengths = np.diff(bounds, prepend=0, append=rows * columns)
    values = (np.arange(len(lengths)) & 1).astype(np.uint8)
    return Patch(top, left, np.repeat(values, lengths).reshape(columns, rows).T)


class Zoom:
    """What is seen of objects in a window of the image that is resized: the pixels that they cover by half or more.

    The same bits as cropping the mask (H, W) to the window and resizing that, with 0 and 255 for its values, by Pillow
    (bilinear, first the width, then the height), but only the pixels about the object are touched. torchvision, with
    antialiasing, differs in one pixel of a million: its weights have fewer bits.

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
        return _trimmed(Patch(y, x, piece))


class _Taps(NamedTuple):
    """How the pixels along a resized axis average those of the source: `counts` from `starts` on, with `weights`.

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


def _trimmed(patch: Patch) -> Patch | None:
    """Without empty rows and columns at its edges; None if it is empty."""
    rows, columns = (np.flatnonzero(patch.pixels.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    inner = patch.pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Patch(patch.top + int(rows[0]), patch.left + int(columns[0]), inner)
