"""COCO segmentations and pixels: the only code that turns one into the other, and the only use of `pycocotools.mask`.

Outlines and run lengths are rasterised by pycocotools, as COCO's evaluation does. `decode_patch` makes only the pixels
of the rectangle that an object fills, so its cost depends on the object and not on the image.

Axes: H W pixels of the image file, D detections, G objects. A segmentation is a list of polygons [x1, y1, x2, y2, ...],
or a run-length encoding (RLE) with counts as a list or as text.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from distill.patch import Patch


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


def encode_patch(patch: Patch, height: int, width: int) -> dict[str, Any]:
    """The mask of an image (H, W) whose pixels all lie in a patch, as `encode_mask` gives it, without the empty space.

    Raises:
        ValueError: H * W is 2^32 or more, which the run lengths of COCO's tools cannot hold.
    """
    if not fits_rle(height, width):
        raise ValueError(f"{height} x {width} pixels are more than a run-length encoding holds")
    rows, columns = patch.pixels.shape
    framed = np.zeros((columns, rows + 2), np.uint8)
    framed[:, 1:-1] = patch.pixels.T
    column, row = np.nonzero(framed[:, 1:] != framed[:, :-1])
    bounds = (column + patch.left) * height + row + patch.top  # where runs begin and end, down the columns
    again = bounds[1:] == bounds[:-1]  # a run to the bottom of the image goes on at the top of the next column
    bounds = bounds[~(np.append(again, False) | np.append(False, again))[: len(bounds)]]
    counts = np.diff(bounds, prepend=0, append=height * width)
    if counts[-1] == 0:
        counts = counts[:-1]
    rle = to_rle({"counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def fits_rle(height: int, width: int) -> bool:
    """Whether the run lengths of COCO's tools, which have 32 bits, can hold masks of an image (H, W)."""
    return height * width < 2**32


def mask_fields(mask: NDArray[Any]) -> dict[str, Any]:
    """The fields of a COCO annotation that follow from its mask (H, W): RLE, area in pixels, box of the pixels."""
    rle = encode_mask(mask)
    return {"segmentation": rle, "area": float(mask.sum()), "bbox": extent_of(rle, *mask.shape)}


def box_polygons(x1: float, y1: float, x2: float, y2: float) -> list[list[float]]:
    """A box as polygons, for data sets that publish nothing finer."""
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def mask_iou(found: Sequence[Any], objects: Sequence[Any], crowd: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Intersection over union (D, G) of the masks of detections and objects, all RLE of one image size.

    Args:
        found: RLE of D detections.
        objects: RLE of G objects.
        crowd: Bool (G,). Of a region to ignore, the area of the detection is taken in place of the union.
    """
    overlaps = coco_mask.iou(list(found), list(objects), crowd.astype(np.uint8))
    return np.reshape(overlaps, (len(found), len(objects)))  # a plain list where one side is empty


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


def patch_fields(patch: Patch, height: int, width: int) -> dict[str, Any]:
    """`mask_fields` of a mask of an image (H, W), from the pixels of its rectangle alone."""
    rle = encode_patch(patch, height, width)
    return {"segmentation": rle, "area": float(patch.pixels.sum()), "bbox": extent_of(rle, height, width)}
